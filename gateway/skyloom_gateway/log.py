"""The log: one line for each event, on standard error.

    structlog call  -> level -> flood bound -> context -> clean and bound the values -> console or JSON line
    stdlib record   -> level -^   (websockets, sqlalchemy, asyncio and whatever else uses `logging`)

Write ``log = structlog.get_logger()`` and log a name with fields: ``log.info("session.opened", id=id)``.
Ids that belong on every line of a task go there by `structlog.contextvars.bind_contextvars`.

What a client sent may be logged as a field, never as the event name: fields lose control characters (a line
break in a user's name would forge a log line, an escape sequence would drive the operator's terminal) and are
cut at a bound.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from skyloom_gateway.settings import LogSettings

LOG_VALUE_CHARS_MAX = 512
"""Longest text value of a line, before escaping. `LogSettings.value_chars` sets it."""
LOG_EXCEPTION_CHARS_MAX = 16_384
LOG_VALUE_DEPTH_MAX = 4
LOG_VALUE_ITEMS_MAX = 32
LOG_VALUE_BYTES_MAX = 64
LOG_INTEGER_BITS_MAX = 256
LOG_EVENTS_WATCHED_MAX = 1_024
LOG_WINDOW_SECONDS = 1.0

# Below these levels the libraries log each frame or each row, with what the clients wrote in it.
_LIBRARY_LEVELS = {
    "websockets": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.INFO,
}
_MULTILINE = ("exception", "stack")

LEVELS = ("debug", "info", "warning", "error")


class _Sink:
    """Writes lines, from any thread. A log that cannot be written must not stop the server: lines lost are
    counted.
    """

    def __init__(self) -> None:
        self.file: BinaryIO | None = None
        self.lost = 0

    def msg(self, line: bytes) -> None:
        if self.file is None:
            self.lost += 1
            return
        try:
            # One write call for a whole line, so that lines of several threads do not mix.
            self.file.write(line + b"\n")
            self.file.flush()
        except (OSError, ValueError):
            # A full disk, a reader that went away, a file closed at shutdown.
            self.lost += 1

    debug = info = warning = error = critical = exception = fatal = warn = log = msg


_SINK = _Sink()
_PROCESSORS: list[Processor] = []


def configure(
    settings: LogSettings,
    file: BinaryIO | None = None,
    now: Callable[[], float] = time.time,  # noqa: TID251 - the log shows the wall clock; tests give their own
) -> FloodBound:
    """Set structlog and the standard library's logging up for the whole process; may be called again.

    Args:
        settings: level, format and bounds.
        file: where lines go; standard error when None. It decides what format "auto" means.
        now: Unix time in seconds.

    Returns:
        The flood bound; call its `flush` at shutdown, so that the last counts are written.
    """
    file = file if file is not None else sys.stderr.buffer
    _SINK.file = file
    terminal = file.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    finish: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        Cleaner(now, settings.value_chars, indent="    " if console else ""),
        _console_line(colors=terminal) if console else _json_line,
    ]

    def write(method: str, event: EventDict) -> None:
        line: Any = event
        for processor in finish:
            line = processor(None, method, line)
        _SINK.msg(line)

    flood = FloodBound(settings.repeats_per_second, now, lambda event: write("warning", event))
    # The same list object and the same sink each time: loggers that were used before keep both.
    _PROCESSORS[:] = [flood, *finish]
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=_Logger,
        logger_factory=lambda *_: _SINK,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _StandardLibrary)]:
        root.removeHandler(old)
    root.addHandler(_StandardLibrary(flood, write))
    set_level(settings.level)
    logging.captureWarnings(True)
    return flood


class _Logger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc]  # a class, made at run time
    """What all loggers are: they keep their class for good, so that another level is put into the class itself."""


def set_level(name: str) -> None:
    """Log from the level of this name on, one of `LEVELS`; at once, by all loggers there are."""
    level = logging.getLevelNamesMapping()[name.upper()]
    for method, function in vars(structlog.make_filtering_bound_logger(level)).items():
        if not method.startswith("__"):
            setattr(_Logger, method, function)
    logging.getLogger().setLevel(level)
    for library, least in _LIBRARY_LEVELS.items():
        logging.getLogger(library).setLevel(max(level, least))


def lines_lost() -> int:
    """How many lines the log could not take, of this process: a full disk, a reader that went away."""
    return _SINK.lost


def clean(value: object, chars_max: int = LOG_VALUE_CHARS_MAX, depth: int = 0) -> object:
    """A plain value of bounded size that is safe in any line, made from any value, also a hostile one.

    Args:
        value: whatever is to be logged. Containers are walked to depth 4 and 32 items and never handed to
            `repr`,
            which recurses on what a client nested.
        chars_max: text longer than this many characters is cut, and the line says how many are missing.
        depth: how deep inside the logged value this one is.
    """
    match value:
        case None | bool() | float():
            return value
        case str():
            return clean_text(value, chars_max)
        case int():
            bits = value.bit_length()
            return value if bits <= LOG_INTEGER_BITS_MAX else f"<int of {bits} bits>"
        case bytes() | bytearray() | memoryview():
            shown = bytes(value[:LOG_VALUE_BYTES_MAX])
            return f"<{len(value)} bytes: {shown!r}>" if len(value) > len(shown) else repr(shown)
        case Mapping():
            return _clean_mapping(value, chars_max, depth)
        case list() | tuple() | set() | frozenset():
            if depth >= LOG_VALUE_DEPTH_MAX:
                return f"<{type(value).__name__} of {len(value)}>"
            items = [clean(item, chars_max, depth + 1) for item in islice(value, LOG_VALUE_ITEMS_MAX)]
            missing = len(value) - len(items)
            return [*items, f"... {missing} more"] if missing else items
        case _:
            try:
                return clean_text(str(value), chars_max)
            except Exception as error:  # noqa: BLE001 - an unprintable value must not stop its caller
                return f"<{type(value).__name__} that cannot be printed: {type(error).__name__}>"


def _clean_mapping(value: Mapping[Any, Any], chars_max: int, depth: int) -> object:
    if depth >= LOG_VALUE_DEPTH_MAX:
        return f"<{type(value).__name__} of {len(value)}>"
    cleaned: dict[str, object] = {}
    for key in islice(value, LOG_VALUE_ITEMS_MAX):
        cleaned[str(clean(key, chars_max, depth + 1))] = clean(value[key], chars_max, depth + 1)
    if len(value) > LOG_VALUE_ITEMS_MAX:
        cleaned["..."] = f"{len(value) - LOG_VALUE_ITEMS_MAX} more"
    return cleaned


def clean_text(text: str, chars_max: int = LOG_VALUE_CHARS_MAX) -> str:
    r"""Text on one line: cut to `chars_max`, characters that are not printable as ``\n``, ``\x1b`` or
    ``\u202e``.
    """
    missing = len(text) - chars_max
    if missing > 0:
        text = text[:chars_max]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"{text}... ({missing} more characters)" if missing > 0 else text


class Cleaner:
    """Processor that puts time, level and event first and makes every other field safe to write.

    Args:
        now: Unix time in seconds.
        chars_max: longest text value, characters.
        indent: goes before each line of a traceback, so that none of them can pass for a line of the log.
    """

    def __init__(self, now: Callable[[], float], chars_max: int, indent: str = "") -> None:
        self._now = now
        self._chars_max = chars_max
        self._indent = indent
        self._second = -1
        self._second_text = ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        cleaned: EventDict = {
            "timestamp": self._stamp(),
            "level": event.pop("level", method),
            "event": clean_text(str(event.pop("event", "")), self._chars_max),
        }
        for key, value in event.items():
            if key in _MULTILINE and isinstance(value, str):
                cleaned[key] = self._lines(value)
            elif type(value) is str and len(value) <= self._chars_max and value.isprintable():
                cleaned.setdefault(key, value)
            elif key not in cleaned:
                cleaned[key] = clean(value, self._chars_max)
        return cleaned

    def _stamp(self) -> str:
        """ISO 8601 in UTC, to the millisecond. The part down to the second is made once a second."""
        milliseconds = int(self._now() * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._second_text}{milliseconds % 1000:03d}Z"

    def _lines(self, text: str) -> str:
        # The end of a traceback names the error, so the beginning is what is cut.
        if len(text) > LOG_EXCEPTION_CHARS_MAX:
            text = "...\n" + text[-LOG_EXCEPTION_CHARS_MAX:]
        return "\n".join(self._indent + clean_text(line, LOG_EXCEPTION_CHARS_MAX) for line in text.split("\n"))


class FloodBound:
    """Processor that lets the same event through so many times a second, then only counts it.

    The count is written as a `log.suppressed` line with the first event of any kind after the second is over,
    or by `flush`. At most 1,024 different events are watched at a time; a flood of different events counts as
    one event.

    Args:
        repeats: lines of one event in a second.
        now: time in seconds.
        summarise: writes the line about what was left out.
    """

    def __init__(self, repeats: int, now: Callable[[], float], summarise: Callable[[EventDict], None]) -> None:
        self._repeats = repeats
        self._now = now
        self._summarise = summarise
        self._counts: dict[str, int] = {}
        self._window_start = now()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Raise `structlog.DropEvent` for an event over the bound."""
        if not self.admits(str(event.get("event", ""))):
            raise structlog.DropEvent
        return event

    def admits(self, name: str) -> bool:
        """Count the event `name`; False when it is over the bound and must not be written."""
        # A wall clock may be set back: an age below 0 ends the window too.
        if not 0 <= self._now() - self._window_start < LOG_WINDOW_SECONDS:
            self.flush()
        if name not in self._counts and len(self._counts) >= LOG_EVENTS_WATCHED_MAX:
            name = "(other events)"
        count = self._counts.get(name, 0) + 1
        self._counts[name] = count
        return count <= self._repeats

    def flush(self) -> None:
        """Write what was left out so far, and begin a new second."""
        counts, self._counts = self._counts, {}
        self._window_start = self._now()
        for name, count in counts.items():
            if count > self._repeats:
                self._summarise({"event": "log.suppressed", "repeated": name, "lines": count - self._repeats})


class _StandardLibrary(logging.Handler):
    """Sends records of the standard library's logging the way of structlog's events."""

    def __init__(self, flood: FloodBound, write: Callable[[str, EventDict], None]) -> None:
        super().__init__()
        self._flood = flood
        self._write_event = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # The template, not the text made from it: one event with many different values is one event.
            if not self._flood.admits(f"{record.name}: {record.msg}"[:LOG_VALUE_CHARS_MAX]):
                return
            event: EventDict = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            self._write_event(record.levelname.lower(), event)
        except Exception:  # noqa: BLE001 - reported, not raised, as by logging's own handlers
            self.handleError(record)


def _json_line(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    return to_json(event, inf_nan_mode="strings")


def _console_line(*, colors: bool) -> Processor:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False, pad_event_to=32
    )

    def line(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        return renderer(logger, method, event).encode("utf-8", "backslashreplace")

    return line
