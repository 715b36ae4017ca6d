"""Settings as text: the table of `skyloom check` and the page docs/reference/settings.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from skyloom_gateway.settings import CONFIG_FILE, ENVIRONMENT_DELIMITER, ENVIRONMENT_PREFIX, PATTERNS, Settings

_PASSWORD = re.compile(r"(://[^/@:]*:).*(@)|([?&]password=)[^&]*()|((?:nats|tls)://)[^/@:]*(@)")

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a file name", SecretStr: "text"}
_PAGE_HEAD = f"""# Settings

Settings come from the command line (`skyloom gateway --help` lists its options), the environment and a TOML
file; the first of these that names a setting wins. The file is `{CONFIG_FILE}` in the working directory, or
the one that `--config` names, with a table for each section below. In the environment a setting is its name
in capitals after `{ENVIRONMENT_PREFIX}`, with two underscores between section and name. Times are seconds, sizes
bytes. `off` switches an optional setting off, as `false` does in the file. A name that is not in
these tables is refused.

This page is generated from the settings themselves.
"""


def settings_fields() -> dict[str, FieldInfo]:
    """Every setting by its full name, such as "gateway.port", in the order of the source."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, inner_field in field.annotation.model_fields.items():
                fields[f"{name}.{inner}"] = inner_field
        else:
            fields[name] = field
    return fields


def environment_name(name: str) -> str:
    """The environment variable of the setting `name`: "gateway.port" is SKYLOOM_GATEWAY__PORT."""
    return ENVIRONMENT_PREFIX + name.replace(".", ENVIRONMENT_DELIMITER).upper()


def allowed(field: FieldInfo) -> str:
    """What a setting may hold, in words: kind and bounds."""
    kind, metadata, optional = kind_of(field.annotation, list(field.metadata))
    if get_origin(kind) is not None and get_origin(kind) is not tuple:
        *choices, last = map(str, get_args(kind))
        text = f"{', '.join(choices)} or {last}"
    elif get_origin(kind) is tuple:
        text = "a list of file names" if get_args(kind)[0] is Path else "a list"
    else:
        text = _KINDS.get(kind, "text")
    text += _bounds(metadata)
    if kind is str and any(isinstance(rule, MaxLen) for rule in metadata):
        text = text.replace("text from", "text of") + " characters"
    return f"{text}, or off" if optional else text


def kind_of(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any], bool]:
    """Look through Annotated and Optional to the kind of value and all that is said about it."""
    optional = False
    while True:
        arguments = get_args(annotation)
        if hasattr(annotation, "__metadata__"):
            annotation, metadata = arguments[0], [*metadata, *arguments[1:]]
        elif type(None) in arguments:
            optional = True
            annotation = next(part for part in arguments if part is not type(None))
        else:
            break
    flat = [rule for item in metadata for rule in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return annotation, flat, optional


def _bounds(metadata: list[Any]) -> str:
    parts: list[str] = []
    for rule in metadata:
        match rule:
            case Ge(ge=low) | MinLen(min_length=low):
                parts.append(f"from {_number(low)}")
            case Gt(gt=low):
                parts.append(f"above {_number(low)}")
            case Le(le=high) | MaxLen(max_length=high):
                parts.append(f"to {_number(high)}")
            case Lt(lt=high):
                parts.append(f"below {_number(high)}")
            case _ if (pattern := getattr(rule, "pattern", None)) is not None:
                parts.append(PATTERNS.get(pattern, f"that matches {pattern}"))
    return f" {' '.join(parts)}" if parts else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) or not value.is_integer() else f"{value:,.0f}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "off"
        case bool():
            return "true" if value else "false"
        case ():
            return "none"
        case tuple():
            return ", ".join(str(item) for item in value)
        case float() if value.is_integer():
            return f"{value:.0f}"
        case _:
            return _PASSWORD.sub(r"\1\3\5***\2\6", str(value))


def _value(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def describe(settings: Settings | None = None) -> str:
    """All settings as a table in plain text: name, value, where the value came from, meaning.

    Passwords and tokens in URLs are replaced by three asterisks.

    Args:
        settings: the settings to show; the defaults when None.
    """
    settings = Settings() if settings is None else settings
    rows = [("setting", "value", "from", "meaning")]
    for name, field in settings_fields().items():
        rows.append((name, _shown(_value(settings, name)), settings.origin(name), field.description or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row in rows:
        columns = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join([*columns, row[3]]).rstrip())
    return "\n".join(lines)


def reference_page() -> str:
    """The text of docs/reference/settings.md."""
    defaults = Settings()
    lines = [_PAGE_HEAD]
    section = None
    for name, field in settings_fields().items():
        group = name.rpartition(".")[0]
        if group != section:
            section = group
            lines.append(f"## {group or 'General'}\n" if section == "" else f"\n## [{group}]\n")
            lines.append("| setting | environment | default | may be | meaning |\n|---|---|---|---|---|")
        may_be = allowed(field).replace("|", "\\|")
        lines.append(
            f"| `{name}` | `{environment_name(name)}` | `{_shown(_value(defaults, name))}` "
            f"| {may_be} | {field.description} |"
        )
    return "\n".join(lines) + "\n"
