"""What can go wrong, and what the caller may conclude from it.

    SkyloomError
    ├── CallError            a call ended without an answer; has code, message, kind, details, retryable
    │   ├── NotExecuted      the handler surely did not start: dead, unknown, overloaded, bad payload
    │   │   └── UnknownName  no service has that name (also a LookupError)
    │   ├── Unknown          the handler may have run: the peer died or was lost in between
    │   │   └── Expired      the deadline passed first (also a TimeoutError)
    │   └── Failed           the handler ran and raised; subclass it for errors of your own
    ├── CannotStart          a service cannot start, and its text says all: what is wrong and what to do
    │   └── PackageMissing   it needs an optional package that is not installed (also a ModuleNotFoundError)
    ├── NameTaken            another service holds that name (also a ValueError)
    ├── NodeFailed           a supervisor that nobody supervises gave up, which ends its node
    ├── AnsweredTwice        a second answer to one request (also a RuntimeError)
    └── ValueRefused         this object cannot cross a service boundary (also a TypeError)

Only `NotExecuted` is always safe to repeat. A caller gets code, message and details; the traceback stays in the
callee's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from typing import Self

DETAILS_MAX: Final = 64
"""Entries that `details` may have; an error is not a data channel."""

KINDS: Final = frozenset(
    {
        "invalid_argument",
        "unauthenticated",
        "permission_denied",
        "not_found",
        "already_exists",
        "failed_precondition",
        "resource_exhausted",
        "aborted",
        "deadline_exceeded",
        "unavailable",
        "unimplemented",
        "internal",
    }
)
"""The kinds of error, gRPC's canonical codes in lower case."""


class SkyloomError(Exception):
    """Every error of Skyloom's own."""


class CannotStart(SkyloomError):
    """A service cannot start for a reason that whoever runs it can mend: a database, a file, a setting.

    Raise it, or a subclass, from `on_start` or `on_check`. It is told without a traceback: its text says what is wrong
    and what to do.
    """


class PackageMissing(CannotStart, ModuleNotFoundError):
    """An optional package is not installed; the text says how to install it."""


class NameTaken(SkyloomError, ValueError):
    """Another living service is registered under the name."""


class NodeFailed(SkyloomError, RuntimeError):
    """A node cannot go on: a supervisor at the root gave up or was killed. The text says why."""


class AnsweredTwice(SkyloomError, RuntimeError):
    """The request already has its answer, or the answer was passed on by `forward` or `response`."""


class ValueRefused(SkyloomError, TypeError):
    """The object is not a value, or not one that the other side can rebuild."""


class CallError(SkyloomError):
    """A call ended without an answer.

    ``code`` is stable and namespaced ("skyloom.no_handler", "chat.room_not_found"), ``message`` is for people,
    ``kind`` one of `KINDS`, ``details`` a dict of values, ``retryable`` says that trying again may help.
    """

    code: str = "skyloom.error"
    kind: str = "internal"
    retryable: bool = False
    message: str
    details: dict[str, object]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        self = super().__new__(cls, *args)
        # Here too, for a subclass whose __init__ does not call ours.
        self.message = ""
        self.details = {}
        return self

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        kind: str | None = None,
        details: dict[str, object] | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if kind is not None:
            if kind not in KINDS:
                raise ValueError(f"kind: {kind!r} is not one of {', '.join(sorted(KINDS))}")
            self.kind = kind
        if retryable is not None:
            self.retryable = retryable
        self.details = {} if details is None else details
        if len(self.details) > DETAILS_MAX:
            raise ValueError(f"details: {len(self.details)} entries, at most {DETAILS_MAX}")

    def __str__(self) -> str:
        return f"{self.message or type(self).__name__} [{self.code}]"


class NotExecuted(CallError):
    """The handler surely did not start; repeating the call cannot do anything twice."""

    code = "skyloom.not_executed"
    kind = "unavailable"
    retryable = True


class UnknownName(NotExecuted, LookupError):
    """No service is registered under the name."""

    code = "skyloom.unknown_name"
    kind = "not_found"
    retryable = False


class Unknown(CallError):
    """The handler may have run; only an idempotent call may be repeated."""

    code = "skyloom.unknown"
    kind = "unavailable"


class Expired(Unknown, TimeoutError):
    """The deadline passed before the answer came; the handler may have run or be running still."""

    code = "skyloom.expired"
    kind = "deadline_exceeded"


class Failed(CallError):
    """The handler ran and raised.

    Raise it, or a subclass that names its code, to answer with an error::

        class RoomNotFound(Failed, code="chat.room_not_found", kind="not_found"): ...

    A subclass with a code of its own arrives at the caller as that subclass, so ``except RoomNotFound`` works on
    both sides of a call wherever the class is imported.
    """

    code = "skyloom.failed"
    by_code: ClassVar[dict[str, type[Failed]]] = {}

    def __init_subclass__(cls, code: str | None = None, kind: str | None = None, retryable: bool | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            if kind not in KINDS:
                raise ValueError(f"kind: {kind!r} is not one of {', '.join(sorted(KINDS))}")
            cls.kind = kind
        if retryable is not None:
            cls.retryable = retryable
        if code is not None:
            cls.code = code
            Failed.by_code[code] = cls


_CLASSES: Final[dict[str, type[CallError]]] = {
    "not_executed": NotExecuted,
    "unknown_name": UnknownName,
    "unknown": Unknown,
    "expired": Expired,
    "failed": Failed,
}
_NAMES: Final = {cls: name for name, cls in _CLASSES.items()}


def error_to_values(error: CallError) -> tuple[object, ...]:
    """The error as plain values, for the payload of an ERROR message."""
    name = next((_NAMES[cls] for cls in type(error).__mro__ if cls in _NAMES), "failed")
    return (name, error.code, error.message, error.kind, error.retryable, error.details)


def error_from_values(values: tuple[object, ...]) -> CallError:
    """Rebuild what `error_to_values` took apart; a `Failed` becomes the subclass that owns its code.

    Raises ValueError when the values are not those of an error.
    """
    try:
        name, code, message, kind, retryable, details = values[:6]
        base = _CLASSES[str(name)]
    except (KeyError, ValueError):
        raise ValueError("not an error's payload") from None
    cls = Failed.by_code.get(str(code), Failed) if base is Failed else base
    error = cls.__new__(cls)
    # Not through __init__: a user's subclass may take other arguments than ours.
    CallError.__init__(
        error,
        str(message),
        code=str(code),
        kind=kind if isinstance(kind, str) and kind in KINDS else "internal",
        retryable=bool(retryable),
        details=details if isinstance(details, dict) and len(details) <= DETAILS_MAX else {},
    )
    return error
