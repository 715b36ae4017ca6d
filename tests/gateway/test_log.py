"""The log: one safe line for each event."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.log import (
    LOG_EVENTS_WATCHED_MAX,
    LOG_EXCEPTION_CHARS_MAX,
    LOG_VALUE_CHARS_MAX,
    FloodBound,
    clean,
    clean_text,
    configure,
)
from skyloom_gateway.settings import LogSettings

START = 1_700_000_000.25


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


class Log:
    """What was written, and the clock by which it was."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.now = START
        self.flood: FloodBound | None = None

    def configure(self, **values: object) -> None:
        settings = LogSettings.model_validate({"format": "json", "level": "debug"} | values)
        self.flood = configure(settings, self.file, lambda: self.now)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def text(self) -> str:
        return self.file.getvalue().decode()


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = Log()
    written.configure()
    yield written
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def logger() -> structlog.typing.FilteringBoundLogger:
    found: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return found


def test_a_line_has_time_level_event_and_fields(log: Log) -> None:
    logger().info("session.opened", session="s1", user="ada", seconds=0.5, tags=["a", None, True])
    assert log.text().startswith('{"timestamp":"2023-11-14T22:13:20.250Z","level":"info","event":"session.opened"')
    assert log.lines() == [
        {
            "timestamp": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "event": "session.opened",
            "session": "s1",
            "user": "ada",
            "seconds": 0.5,
            "tags": ["a", None, True],
        }
    ]


def test_context_is_on_every_line(log: Log) -> None:
    with structlog.contextvars.bound_contextvars(connection="c1"):
        logger().info("one")
        logging.getLogger("websockets.server").warning("two")
    logger().info("three")
    assert [line.get("connection") for line in log.lines()] == ["c1", "c1", None]


def test_levels_below_the_setting_are_left_out(log: Log) -> None:
    log.configure(level="warning")
    logger().info("no")
    logging.getLogger("any").info("no")
    logger().warning("yes")
    logging.getLogger("any").error("yes")
    assert [line["event"] for line in log.lines()] == ["yes", "yes"]


def test_libraries_log_here_but_not_their_frames_and_rows(log: Log) -> None:
    for name in ("websockets", "sqlalchemy.engine", "alembic"):
        logging.getLogger(name).debug("%s", "a client's words")
        logging.getLogger(name).info("%s", "a client's words")
        logging.getLogger(name).warning("trouble %d", 1)
    assert [(line["event"], line["logger"], line["level"]) for line in log.lines()] == [
        ("trouble 1", "websockets", "warning"),
        ("trouble 1", "sqlalchemy.engine", "warning"),
        ("trouble 1", "alembic", "warning"),
    ]


def test_python_warnings_are_logged(log: Log) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # catch_warnings put the original function back in place of the capturing one.
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
    assert "old thing" in str(log.lines()[0]["event"])


def test_errors_come_with_their_traceback(log: Log) -> None:
    try:
        raise ValueError("bad\x1b[2Jthing")
    except ValueError:
        logger().exception("handler.failed")
        logging.getLogger("asyncio").exception("task failed")
    for line in log.lines():
        assert "ValueError: bad\\x1b[2Jthing" in str(line["exception"])
        assert "exc_info" not in line


def test_a_huge_traceback_keeps_its_end(log: Log) -> None:
    try:
        raise ValueError("x" * 100_000 + " the end")
    except ValueError:
        logger().exception("failed")
    text = str(log.lines()[0]["exception"])
    assert len(text) < LOG_EXCEPTION_CHARS_MAX + 100
    assert "the end" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_client_cannot_forge_lines_or_drive_the_terminal(log: Log, form: str) -> None:
    log.configure(format=form)
    hostile = 'eve\n{"level":"error","event":"forged"}\r\x1b[31m\u2028\x9b\u202e\x00\ud800'
    logger().info("login", user=hostile, body={hostile: [hostile]}, raw=hostile.encode("utf-8", "replace"))
    # pytest keeps what goes through `logging` for its report, and xdist cannot send a lone surrogate.
    logging.getLogger("any").warning("login of %s", hostile.replace("\ud800", ""))
    text = log.text()
    assert text.count("\n") == 2
    assert text.endswith("\n")
    assert all(character.isprintable() for character in text if character != "\n")


def test_a_traceback_on_the_console_cannot_pass_for_lines(log: Log) -> None:
    log.configure(format="console")
    try:
        raise ValueError("x\n2023-11-14T22:13:20Z [error] forged")
    except ValueError:
        logger().exception("failed")
    first, *rest = log.text().rstrip("\n").split("\n")
    assert first.startswith("2023-11-14")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_huge_values_are_cut(log: Log) -> None:
    deep: object = "bottom"
    for _ in range(100_000):
        deep = [deep]
    logger().info("big", text="x" * 1_000_000, raw=b"x" * 1_000_000, many=list(range(100_000)), deep=deep,
                  number=1 << 100_000, keys={"k" * 1_000 + str(n): n for n in range(1_000)})  # fmt: skip
    (line,) = log.lines()
    assert line["text"] == "x" * LOG_VALUE_CHARS_MAX + "... (999488 more characters)"
    assert str(line["raw"]).startswith("<1000000 bytes: b'xxx")
    assert line["number"] == "<int of 100001 bits>"
    assert len(log.text()) < 40_000


def test_values_that_cannot_be_printed_do_not_stop_the_caller(log: Log) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logger().info("odd", value=Hostile(), nan=float("nan"), infinite=float("inf"))
    (line,) = log.lines()
    assert line["value"] == "<Hostile that cannot be printed: RuntimeError>"
    assert (line["nan"], line["infinite"]) == ("NaN", "Infinity")


def test_fields_do_not_replace_time_and_level(log: Log) -> None:
    logger().info("one", timestamp="then", level="fatal")
    assert log.lines()[0]["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert log.lines()[0]["level"] == "info"


def test_the_same_event_too_often_is_counted_and_summarised(log: Log) -> None:
    log.configure(repeats_per_second=3)
    for number in range(10):
        logger().warning("flood", number=number)
        logging.getLogger("any").warning("flood of %d", number)
    logger().info("other")
    assert [line["event"] for line in log.lines()].count("flood") == 3
    assert len(log.lines()) == 7
    log.now += 1.0
    logger().info("later")
    assert [(line["event"], line.get("repeated"), line.get("lines")) for line in log.lines()[7:]] == [
        ("log.suppressed", "flood", 7),
        ("log.suppressed", "any: flood of %d", 7),
        ("later", None, None),
    ]
    logger().warning("flood")
    assert log.lines()[-1]["event"] == "flood"


def test_the_last_counts_are_written_at_shutdown(log: Log) -> None:
    log.configure(repeats_per_second=1)
    logger().info("flood")
    logger().info("flood")
    assert log.flood is not None
    log.flood.flush()
    log.flood.flush()
    assert [line["event"] for line in log.lines()] == ["flood", "log.suppressed"]


def test_a_flood_of_different_events_is_bounded(log: Log) -> None:
    log.configure(repeats_per_second=2)
    for number in range(LOG_EVENTS_WATCHED_MAX + 500):
        logger().info(f"event {number}")
    assert len(log.lines()) == LOG_EVENTS_WATCHED_MAX + 2
    log.now += 1
    logger().info("later")
    assert log.lines()[-2]["repeated"] == "(other events)"


def test_a_clock_that_is_set_back_does_not_silence_the_log(log: Log) -> None:
    log.configure(repeats_per_second=1)
    logger().info("event")
    log.now -= 3600
    logger().info("event")
    assert [line["event"] for line in log.lines()] == ["event", "event"]


def test_a_file_that_cannot_be_written_does_not_stop_the_caller(log: Log) -> None:
    log.file.close()
    logger().info("lost")
    logging.getLogger("any").error("lost")


def test_configuring_again_does_not_write_twice(log: Log) -> None:
    log.configure()
    logging.getLogger("any").warning("once")
    assert len(log.lines()) == 1


@pytest.mark.parametrize(
    ("form", "file", "colors", "is_json"),
    [
        ("auto", io.BytesIO, False, True),
        ("auto", Terminal, True, False),
        ("console", io.BytesIO, False, False),
        ("json", Terminal, False, True),
    ],
)
def test_the_format_follows_the_setting_and_the_terminal(
    log: Log, form: str, file: Callable[[], io.BytesIO], colors: bool, is_json: bool
) -> None:
    log.file = file()
    log.configure(format=form)
    logger().info("hello", name="ada")
    assert log.text().startswith("{") is is_json
    assert ("\x1b[" in log.text()) is colors
    assert "ada" in log.text()


def test_it_writes_to_standard_error(log: Log, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    configure(LogSettings(format="json"))
    logger().info("hello")
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert json.loads(err)["event"] == "hello"


@given(st.text(), st.integers(1, 50))
def test_clean_text_is_one_printable_line_of_bounded_length(text: str, chars_max: int) -> None:
    cleaned = clean_text(text, chars_max)
    assert cleaned.isprintable()
    assert len(cleaned) <= 10 * chars_max + 40
    if text.isprintable() and len(text) <= chars_max:
        assert cleaned == text


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner), st.sets(st.text()), st.dictionaries(st.one_of(st.text(), st.integers()), inner)
    ),
)


@given(values)
def test_anything_cleans_to_plain_data(value: object) -> None:
    json.dumps(clean(value))


def test_a_container_within_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert len(str(clean(loop))) < 100
