"""Reading settings from their sources, and saying what is wrong with them.

Each source becomes a plain nested dict, is searched for names that no setting has, and is merged over the
ones beneath it. The dicts are kept until the end, so that an error can name the source that it has to be
mended in.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource

from skyloom_gateway.load import kind
from skyloom_gateway.settings import (
    CONFIG_FILE,
    ENVIRONMENT_DELIMITER,
    ENVIRONMENT_PREFIX,
    Settings,
    SettingsError,
)
from skyloom_gateway.settings_text import allowed, environment_name, kind_of, settings_fields

# Read by the project's own tests, not by the product.
_ENVIRONMENT_EXEMPT = frozenset({"SKYLOOM_CI"})
_SHOWN_NAME_CHARS_MAX = 80
_SHOWN_VALUE_CHARS_MAX = 64
_NEVER_SHOWN = frozenset({"database"})
_NUMERIC = re.compile(r"[+-]?[0-9][0-9_,.]{0,18}")


@dataclass(frozen=True, slots=True)
class _Source:
    label: str
    values: dict[str, object]

    def holds(self, path: tuple[str, ...]) -> bool:
        value: object = self.values
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    def option(self, path: tuple[str, ...]) -> str:
        """The option of the command line that sets `path`."""
        return f"--{path[-1].replace('_', '-')}"

    def place(self, path: tuple[str, ...]) -> str:
        """Where in this source `path` is, in words that the operator can search for."""
        if self.label == "environment":
            return f"environment variable {environment_name('.'.join(path))}"
        if self.label == "command line":
            return f"command line ({self.option(path)})"
        if self.label == "--set":
            return f"command line (--set {'.'.join(path)})"
        return f"file {self.label}"


def load(command_line: Mapping[str, object], config: Path | str | None, named: Mapping[str, object]) -> Settings:
    """Merge and check all sources; see `Settings.load`.

    Raises:
        SettingsError: with everything that is wrong.
    """
    problems: list[str] = []
    sources = [
        _Source("--set", dict(named)),
        _Source("command line", _without_none(command_line)),
        _Source("environment", _environment(problems)),
        _file_source(config, problems),
    ]
    for source in (sources[0], sources[1], sources[3]):
        problems += _unknown_names(source)
    problems += _given_twice(sources[0], sources[1])
    merged: dict[str, object] = {}
    for source in reversed(sources):
        _merge(merged, source.values)
    merged = _known(merged)
    problems += _mixed_up(merged, sources)
    settings: Settings | None = None
    try:
        settings = Settings(**merged)  # type: ignore[arg-type]  # of any kind: pydantic checks them
    except ValidationError as error:
        problems += _explain(error, sources)
    if settings is None or problems:
        raise SettingsError(problems)
    for name in settings_fields():
        source_of = _first_with(sources, tuple(name.split(".")))
        if source_of is not None:
            settings._given_in[name] = source_of.place(tuple(name.split(".")))
    return settings


def _given_twice(named: _Source, options: _Source) -> Iterator[str]:
    for name in settings_fields():
        path = tuple(name.split("."))
        if named.holds(path) and options.holds(path):
            yield f"{name}: given both by {options.option(path)} and by --set {name}; leave one out"


def _mixed_up(merged: dict[str, object], sources: list[_Source]) -> Iterator[str]:
    """Take out, and tell, what pydantic would convert: truth values for numbers, and numbers for truth values."""
    for name, field in settings_fields().items():
        section, _, last = name.rpartition(".")
        values = merged.get(section) if section else merged
        if not isinstance(values, dict) or last not in values:
            continue
        value = values[last]
        sort, _, optional = kind_of(field.annotation, list(field.metadata))
        if sort in (int, float):
            wrong = isinstance(value, bool) and not (optional and value is False)
        else:
            wrong = sort is bool and isinstance(value, int | float) and not isinstance(value, bool)
        if wrong:
            source = _first_with(sources, tuple(name.split(".")))
            where = "" if source is None else f" (from {source.place(tuple(name.split('.')))})"
            yield f"{name}: got {_given(value)}{where}; must be {allowed(field)}"
            del values[last]


def _without_none(values: Mapping[str, object]) -> dict[str, object]:
    """The command line has an option for every setting; those not given are None. Empty sections go too."""
    kept: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if section := _without_none(value):
                kept[key] = section
        elif value is not None:
            kept[key] = value
    return kept


def _environment(problems: list[str]) -> dict[str, object]:
    """Values of SKYLOOM_ variables. pydantic-settings ignores the ones it does not know, so they are found
    here.
    """
    known = {environment_name(name).lower(): name for name in settings_fields()}
    wrong = False
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX) or variable.upper() in _ENVIRONMENT_EXEMPT:
            continue
        if variable.lower() not in known:
            wrong = True
            section = variable.upper().removeprefix(ENVIRONMENT_PREFIX).lower()
            problems.append(_unknown_variable(variable, section, known))
    if wrong:
        # A variable that holds a whole section, or one below a setting, would confuse the library's own
        # parser.
        return {}
    return dict(EnvSettingsSource(Settings)())


def _unknown_variable(variable: str, section: str, known: Mapping[str, str]) -> str:
    if section in _sections():
        part = next(iter(_sections()[section].model_fields)).upper()
        example = f"{variable}{ENVIRONMENT_DELIMITER}{part}"
        return f"environment variable {variable}: is a section; set its parts, such as {example}"
    near = difflib.get_close_matches(variable.lower(), known, n=1, cutoff=0.6)
    remedy = f"did you mean {near[0].upper()}?" if near else "unset it, or see `skyloom check` for the names"
    return f"environment variable {_shown(variable)}: no such setting; {remedy}"


def _file_source(config: Path | str | None, problems: list[str]) -> _Source:
    path = Path(CONFIG_FILE if config is None else config).expanduser()
    if config is None and not path.exists():
        return _Source(str(path), {})
    try:
        with path.open("rb") as file:
            return _Source(str(path), tomllib.load(file))
    except tomllib.TOMLDecodeError as error:
        problems.append(f"file {path}: is not TOML: {error}")
    except UnicodeDecodeError:
        problems.append(f"file {path}: is not text in UTF-8; save it as UTF-8")
    except OSError as error:
        problems.append(f"file {path}: cannot be read: {error.strerror}; check --config and its permissions")
    return _Source(str(path), {})


def _sections() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _unknown_names(source: _Source) -> Iterator[str]:
    names = settings_fields()
    for key, value in source.values.items():
        section = _sections().get(key)
        if section is not None and isinstance(value, dict):
            for inner in value:
                if inner not in section.model_fields:
                    yield _unknown_name(f"{key}.{inner}", source, names)
        elif key not in Settings.model_fields:
            yield _unknown_name(key, source, names)


def _unknown_name(name: str, source: _Source, names: Mapping[str, object]) -> str:
    where = "command line" if source.label in ("command line", "--set") else f"file {source.label}"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        # The right name in the wrong section, or in none.
        near = [known for known in names if known.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:1]
    remedy = f"did you mean {near[0]}?" if near else "remove it, or see `skyloom check` for the names"
    return f"{_shown(name)}: no such setting (from {where}); {remedy}"


def _known(merged: dict[str, object]) -> dict[str, object]:
    """Without unknown names: those are reported already, with where they came from."""
    kept: dict[str, object] = {}
    for key, value in merged.items():
        section = _sections().get(key)
        if section is not None and isinstance(value, dict):
            kept[key] = {inner: item for inner, item in value.items() if inner in section.model_fields}
        elif key in Settings.model_fields:
            kept[key] = value
    return kept


def _merge(target: dict[str, object], over: Mapping[str, object]) -> None:
    for key, value in over.items():
        below = target.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _merge(below, value)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _first_with(sources: list[_Source], path: tuple[str, ...]) -> _Source | None:
    return next((source for source in sources if source.holds(path)), None)


def _explain(error: ValidationError, sources: list[_Source]) -> Iterator[str]:
    fields = settings_fields()
    seen: set[str] = set()
    for detail in error.errors(include_url=False, include_context=False):
        path = tuple(str(part) for part in detail["loc"])
        # A union or a list adds parts to the location; the setting is the longest prefix that is one.
        while path and ".".join(path) not in fields and ".".join(path) not in Settings.model_fields:
            path = path[:-1]
        name = ".".join(path)
        if name in seen:
            continue
        seen.add(name)
        source = _first_with(sources, path)
        where = "" if source is None else f" (from {source.place(path)})"
        if name in _sections():
            if detail["type"] in ("tls_pair", "sizes", "proxies", "ports"):
                yield f"{name}: {detail['msg']}"
            else:
                yield f"{name}: got {_given(detail['input'], shown=False)}{where}; must be a table of settings"
        elif "SecretStr" in str(fields[name].annotation):
            yield f"{name}: is not text{where}; must be {allowed(fields[name])}"
        elif detail["type"] in ("origin", "network", "authenticator"):
            yield f"{name}: got {_given(detail['input'])}{where}; {detail['msg']}"
        else:
            given = _given(detail["input"], shown=name not in _NEVER_SHOWN)
            yield f"{name}: got {given}{where}; must be {allowed(fields[name])}"


def _given(value: Any, *, shown: bool = True) -> str:
    """What sort of value it is. Text is shown where no password can be: not in a URL, a section or a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}" if len(str(value)) <= _SHOWN_NAME_CHARS_MAX else "a huge number"
    if isinstance(value, str):
        if not value:
            return "empty text"
        if _NUMERIC.fullmatch(value) or (shown and len(value) <= _SHOWN_VALUE_CHARS_MAX and "@" not in value):
            return f"the text {value!r}"
        return f"text of {len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "a table" if isinstance(value, dict) else kind(value)


def _shown(name: str) -> str:
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= _SHOWN_NAME_CHARS_MAX else text[:_SHOWN_NAME_CHARS_MAX] + "..."
