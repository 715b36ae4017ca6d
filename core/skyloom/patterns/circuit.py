"""The state machine of a circuit breaker; `skyloom.patterns.breaker` says what it is for and draws it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from math import floor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from skyloom.message.errors import CallError, Failed, NotExecuted

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")

WINDOW_SLOTS: Final = 10
"""Parts of the rolling window; the oldest part leaves it as a whole."""

CIRCUIT_OPEN: Final = "skyloom.circuit_open"
"""The code of a NotExecuted by which a breaker refuses a call."""

CALLERS_FAULTS: Final = frozenset({"skyloom.deadline_passed", CIRCUIT_OPEN})
"""NotExecuted that say nothing about the callee, which was not even tried."""


class State(StrEnum):
    """Whether calls pass: all, none, or one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(Enum):
    """What a call says about the one who was called."""

    SUCCESS = 0
    FAILURE = 1
    NOTHING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker opens and closes. Times are in seconds, rates parts of 1."""

    window_seconds: float = 10.0
    """What is looked at: the last so many seconds."""
    calls_min: int = 20
    """Calls in the window below which no rate is looked at."""
    failure_rate: float = 0.5
    """Opens at this part of failures."""
    slow_rate: float = 0.8
    """Opens at this part of slow calls."""
    slow_seconds: float = 1.0
    """A call that takes so long is slow, however it ends."""
    open_seconds: float = 5.0
    """How long it stays open the first time; twice as long each time a probe fails."""
    open_seconds_max: float = 60.0
    """Where the doubling ends."""
    jitter: float = 0.1
    """Up to this part is added to the time it stays open, so that not all callers probe at once."""
    successes: int = 3
    """Probes in a row that must succeed before it closes."""
    failures: int | None = None
    """Opens at so many failures in a row, and looks at no rate; see `consecutive`."""
    count_overload: bool = False
    """Count an overload as a failure."""
    count_business_errors: bool = False
    """Count the callee's own errors as failures."""

    def __post_init__(self) -> None:
        if self.calls_min < 1 or self.successes < 1 or (self.failures is not None and self.failures < 1):
            raise ValueError("calls_min, successes, failures: at least 1 is needed")
        if not (0 < self.failure_rate <= 1 and 0 < self.slow_rate <= 1):
            raise ValueError("failure_rate, slow_rate: parts of 1 are needed, over 0 and up to 1")
        if not (0 < self.open_seconds <= self.open_seconds_max and self.jitter >= 0 and self.slow_seconds > 0):
            raise ValueError("open_seconds up to open_seconds_max, slow_seconds, both over 0, and a jitter are needed")
        if self.window_seconds <= 0:
            raise ValueError("window_seconds: more than 0 is needed")

    @classmethod
    def consecutive(cls, failures: int = 5, open_seconds: float = 60.0) -> Self:
        """The tutorial's breaker: opens at so many failures in a row, tries again after so many seconds."""
        return cls(failures=failures, open_seconds=open_seconds, open_seconds_max=open_seconds, jitter=0.0, successes=1)


class CircuitBreaker:
    """One breaker. `run` calls through it; `enter` and `leave` are `run` for those who cannot await.

    `now` gives seconds, `rng` chance, and `changed(before, after, reason)` is told of every change of state.
    """

    __slots__ = (
        "_calls",
        "_changed",
        "_failures",
        "_opened",
        "_past",
        "_probing",
        "_random",
        "_row",
        "_slot",
        "_slot_end",
        "_slot_seconds",
        "_slow",
        "_slow_seconds",
        "_troubled",
        "_until",
        "closed",
        "generation",
        "now",
        "settings",
        "state",
    )

    def __init__(
        self,
        now: Callable[[], float],
        rng: random.Random,
        settings: BreakerSettings,
        changed: Callable[[State, State, str], object],
    ) -> None:
        self.now, self._random, self.settings, self._changed = now, rng, settings, changed
        self._slot_seconds = settings.window_seconds / WINDOW_SLOTS
        self._slow_seconds = settings.slow_seconds
        self.state = State.CLOSED
        self.closed = True
        self.generation = 0
        self._opened = 0  # times in a row, without having closed in between
        self._until = 0.0
        self._probing = False
        self._clear()

    def _clear(self) -> None:
        self._row = 0  # failures in a row while closed, successes in a row while half open
        self._calls = self._failures = self._slow = 0  # in the window
        self._past: dict[int, tuple[int, int, int]] = {}  # of these, those in its parts before this one
        self._troubled = False  # whether there is a failure or a slow call in the window, or was a moment ago
        self._slot, self._slot_end = 0, 0.0

    async def run(self, make: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``make(*args)`` unless the breaker is open. Raises NotExecuted, and what it raises."""
        generation = self.generation if self.closed else self.enter()
        started = self.now()
        try:
            answer = await make(*args, **kwargs)
        except BaseException as error:
            self.leave(generation, self.judge(error), self.now() - started)
            raise
        self.succeeded(generation, started)
        return answer

    def enter(self) -> int:
        """Ask to make a call; what comes back is for `leave`, which must follow. Raises NotExecuted."""
        if self.state is State.OPEN and self.now() >= self._until:
            self._change(State.HALF_OPEN, "it is time to try again")
        if self.state is State.OPEN:
            raise self._refusal(f"it is tried again in {self._until - self.now():.1f} s")
        if self.state is State.HALF_OPEN:
            if self._probing:
                raise self._refusal("it is being tried again right now")
            self._probing = True
        return self.generation

    def succeeded(self, generation: int, started: float) -> None:
        """`leave` for a call that began at `started` and was answered just now."""
        ended = self.now()
        if (
            self._troubled
            or generation != self.generation
            or ended >= self._slot_end
            or ended - started >= self._slow_seconds
        ):
            self.leave(generation, Outcome.SUCCESS, ended - started)
        else:  # nothing is to be decided
            self._calls += 1

    def leave(self, generation: int, outcome: Outcome, seconds: float) -> None:
        """Tell how a call ended, and how long it took."""
        if generation != self.generation:
            return  # it began before the last change, so it says nothing about now
        if self.state is State.HALF_OPEN:
            self._probed(outcome, seconds)
            return
        if outcome is Outcome.NOTHING:
            return
        now = self.now()
        if now >= self._slot_end:
            self._turn(max(self._slot + 1, floor(now / self._slot_seconds)))  # floats may round to the old one
        self._calls += 1
        slow = seconds >= self._slow_seconds
        self._slow += slow
        if outcome is Outcome.FAILURE:
            self._failures += 1
            self._row += 1
        else:
            self._row = 0
        if slow or outcome is Outcome.FAILURE:
            self._troubled = True
        if self._troubled:
            self._decide()

    def judge(self, error: BaseException) -> Outcome:
        """What an error says about the callee; see the module's docstring."""
        settings = self.settings
        if isinstance(error, NotExecuted):
            if error.code in CALLERS_FAULTS:
                return Outcome.NOTHING
            if error.kind == "resource_exhausted":
                return Outcome.FAILURE if settings.count_overload else Outcome.NOTHING
            refused = error.kind == "invalid_argument"  # what was sent could not be read
            return Outcome.NOTHING if refused else Outcome.FAILURE
        if isinstance(error, Failed) and is_business(error):
            return Outcome.FAILURE if settings.count_business_errors else Outcome.SUCCESS
        # OSError is what a connection raises that was put behind a breaker; TimeoutError is one of them.
        return Outcome.FAILURE if isinstance(error, CallError | OSError) else Outcome.NOTHING

    def _turn(self, slot: int) -> None:
        """Begin a new part of the window; those that are too old leave."""
        past = self._past
        before = [sum(column) for column in zip(*past.values(), strict=True)] or [0, 0, 0]
        past[self._slot] = (self._calls - before[0], self._failures - before[1], self._slow - before[2])
        for old in [old for old in past if old <= slot - WINDOW_SLOTS]:
            calls, failures, slow = past.pop(old)
            self._calls -= calls
            self._failures -= failures
            self._slow -= slow
        self._slot, self._slot_end = slot, (slot + 1) * self._slot_seconds
        self._troubled = bool(self._failures or self._slow or self._row)

    def _decide(self) -> None:
        settings, calls = self.settings, self._calls
        if settings.failures is not None:
            if self._row >= settings.failures:
                self._open(f"{self._row} failures in a row")
        elif calls >= settings.calls_min:
            if self._failures >= settings.failure_rate * calls:
                self._open(f"{self._failures} of {calls} calls failed")
            elif self._slow >= settings.slow_rate * calls:
                self._open(f"{self._slow} of {calls} calls were slow")

    def _probed(self, outcome: Outcome, seconds: float) -> None:
        self._probing = False
        if outcome is Outcome.NOTHING:
            return
        if outcome is Outcome.FAILURE or (seconds >= self._slow_seconds and self.settings.failures is None):
            self._open("a probe failed" if outcome is Outcome.FAILURE else "a probe was slow")
            return
        self._row += 1
        if self._row >= self.settings.successes:
            self._opened = 0
            self._change(State.CLOSED, f"{self._row} probes succeeded")

    def _open(self, reason: str) -> None:
        settings = self.settings
        # The exponent has a bound of its own: 2.0 ** 1024 is an OverflowError.
        seconds = min(settings.open_seconds_max, settings.open_seconds * 2.0 ** min(self._opened, 64))
        self._opened += 1
        self._until = self.now() + seconds * (1 + settings.jitter * self._random.random())
        self._change(State.OPEN, reason)

    def _change(self, after: State, reason: str) -> None:
        before, self.state = self.state, after
        self.closed = after is State.CLOSED
        self.generation += 1
        self._probing = False
        self._clear()
        self._changed(before, after, reason)

    def _refusal(self, reason: str) -> NotExecuted:
        return NotExecuted(f"the circuit breaker is open: {reason}", code=CIRCUIT_OPEN, retryable=True)


def is_business(error: Failed) -> bool:
    """Whether the callee raised this error on purpose; the others are the runtime's, for a callee that broke."""
    return error.code == Failed.code or not error.code.startswith("skyloom.")
