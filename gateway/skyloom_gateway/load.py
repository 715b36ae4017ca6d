"""Loading what an operator names as ``module:attribute``, and saying what is wrong with it."""

from __future__ import annotations

import importlib
import re
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import skyloom

if TYPE_CHECKING:
    from collections.abc import Callable

_OURS: Final = (Path(__file__).parent, Path(skyloom.__file__).parent)
"""Where a fault in an operator's module is noticed, but does not lie."""

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


class LoadError(Exception):
    """What was named cannot be loaded. The text says why, where, and what to do."""


def load(spec: str, what: str, fits: Callable[[object], bool]) -> Any:
    """Import what ``module:attribute`` names.

    Args:
        spec: what the operator wrote.
        what: what it has to be, with its article, such as "an App".
        fits: whether something is that.

    Raises:
        LoadError: it is not there, not that, or its module fails; one that the module raised itself comes as it is.
    """
    module_name, colon, attribute = spec.partition(":")
    if not colon or not attribute or not _MODULE.match(module_name) or module_name.endswith(".py"):
        raise LoadError("write it as module:attribute, the module as in `import module`; for example skyloom_chat:app")
    try:
        module = importlib.import_module(module_name)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"module {module_name!r} cannot be imported: {_cause(module_name, error)}") from error
    found = getattr(module, attribute, None)
    if fits(found):
        return found
    others = [name for name, value in vars(module).items() if fits(value)]
    remedy = f"; did you mean {' or '.join(others)}?" if others else "; nothing there is one"
    if attribute not in vars(module):
        raise LoadError(f"module {module_name!r} has no {attribute!r} that is {what}{remedy}")
    raise LoadError(f"{module_name}.{attribute} is {kind(found)}, not {what}{remedy}")


def kind(value: object) -> str:
    """Its sort with an article: "a dict", "an int", "the class Game", "the module game", "None". Never its content."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _cause(module: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{module}.".startswith(f"{error.name}."):
        return f"no {error.name!r} is installed, nor in the folder {Path.cwd()}"
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    if isinstance(
        error, skyloom.CannotStart
    ):  # such as a package that is not installed: its text is all there is to say
        return str(error)
    said = (str(error).splitlines() or [""])[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    theirs = [frame for frame in frames if not any(Path(frame.filename).is_relative_to(folder) for folder in _OURS)]
    where = f"{theirs[-1].filename}, line {theirs[-1].lineno}; " if theirs else ""
    return f"{type(error).__name__}: {said} ({where}`python -c 'import {module}'` shows more)"
