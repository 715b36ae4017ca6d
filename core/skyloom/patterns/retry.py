"""A call that is made again when it failed and may be repeated.

What to write, instead of ``self.call``::

    user = await retry_call(self, "USER_SERVICE", "lua", "get_user", 42, idempotent=True)
    user = await retry_call(self, "USER_SERVICE", "lua", "get_user", 42, circuit=True)  # every try through a breaker
    user = await Retry(self, idempotent=True).run(users.get_user, 42)  # typed; any coroutine function

What is repeated: a call that surely did not start (NotExecuted), unless trying again cannot help or a circuit breaker
refused it. A call that is declared `idempotent` also when it may have run (Unknown, Expired) or when the callee broke;
never when the callee says no, by a `Failed` with a code of its own, unless it is marked `retryable`.

How often: `attempts` times in all, with an exponential back-off of full jitter in between ("Exponential Backoff And
Jitter", AWS Architecture Blog, 2015), all within one deadline, and only as long as the budget lasts: 10% of the calls
plus 1 a second, for each service that is called. Retries beyond that would keep down a service that tries to get up.
When no retry is left, the last error is raised; but Unknown, with that as its cause, where it is NotExecuted and an
earlier try may have run: whoever gets NotExecuted takes it that nothing has happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

from skyloom.message.address import Address
from skyloom.message.errors import CallError, Failed, NotExecuted, Unknown
from skyloom.node.cell import CALL_TIMEOUT_SECONDS
from skyloom.patterns.breaker import Circuits, shared_circuits
from skyloom.patterns.circuit import CALLERS_FAULTS, is_business

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.service.service import Service

P = ParamSpec("P")
T = TypeVar("T")

BUDGETS_MAX: Final = 10_000
"""Services whose budgets a node keeps; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """How often and how soon to try again. Times are in seconds."""

    attempts: int = 3
    """Tries in all, the first one included."""
    backoff_seconds: float = 0.1
    """The longest wait before the first retry; twice as long before each further one."""
    backoff_seconds_max: float = 5.0
    """Where the doubling ends."""
    attempt_seconds: float | None = None
    """The longest that one try of `retry_call` may take; None gives each all the time that is left."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts: at least 1 is needed")
        if not 0 <= self.backoff_seconds <= self.backoff_seconds_max:
            raise ValueError("backoff_seconds: 0 or more is needed, up to backoff_seconds_max")
        if self.attempt_seconds is not None and self.attempt_seconds <= 0:
            raise ValueError("attempt_seconds: more than 0 is needed")

    def backoff(self, retries: int) -> float:
        """The longest wait after so many retries."""
        # The exponent has a bound of its own: 2.0 ** 1024 is an OverflowError.
        return min(self.backoff_seconds_max, self.backoff_seconds * 2.0 ** min(retries, 64))


DEFAULT: Final = RetrySettings()


class RetryBudget:
    """Retries that may be made: a part of the calls plus some a second, saved up to a limit.

    In any stretch of time at most ``share`` times its calls plus ``per_second`` times its seconds plus ``saved_max``
    retries are made. `now` gives seconds.
    """

    __slots__ = ("_at", "_now", "_per_second", "_saved", "_saved_max", "_share")

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.1, per_second: float = 1.0, saved_max: float = 100.0
    ) -> None:
        self._now, self._share, self._per_second, self._saved_max = now, share, per_second, saved_max
        self._saved = min(1.0, saved_max)
        self._at = now()

    def called(self) -> None:
        """A first try is made."""
        saved = self._saved + self._share
        self._saved = saved if saved < self._saved_max else self._saved_max

    def spend(self) -> bool:
        """Take one retry out of the budget. False when it holds none."""
        now = self._now()
        self._saved = min(self._saved_max, self._saved + (now - self._at) * self._per_second)
        self._at = now
        # Ten times a tenth is a little less than one.
        if self._saved < 1.0 - 1e-9:
            return False
        self._saved = max(0.0, self._saved - 1.0)
        return True


def may_repeat(error: CallError, *, idempotent: bool) -> bool:
    """Whether a call that ended with this error may be made again, and whether that can help."""
    if isinstance(error, NotExecuted):
        pointless = error.code in CALLERS_FAULTS or error.kind == "invalid_argument"
        return not pointless
    if not idempotent:
        return False
    if isinstance(error, Failed) and is_business(error):
        return error.retryable
    return isinstance(error, Unknown | Failed)


def _budget(caller: Service, dest: Address | str) -> RetryBudget:
    budgets: dict[Address | str, RetryBudget] = caller.node.shared.setdefault(RetryBudget, {})
    budget = budgets.get(dest)
    if budget is None:
        if len(budgets) >= BUDGETS_MAX:
            del budgets[next(iter(budgets))]
        budget = budgets[dest] = RetryBudget(caller.clock.now)
    return budget


def _give_up(error: CallError, unsure: CallError | None) -> NoReturn:
    """Raise the last error, or Unknown when that would hide that an earlier try may have run."""
    if unsure is None or not isinstance(error, NotExecuted):
        raise error
    raise Unknown(f"the last try did not start ({error}), but an earlier one may have run ({unsure})") from error


async def _wait(caller: Service, retries: int, settings: RetrySettings, budget: RetryBudget, deadline: float) -> bool:
    """Wait before the next try. False when there must be none."""
    if retries >= settings.attempts - 1:
        return False
    seconds = caller.random.random() * settings.backoff(retries)
    if caller.clock.now() + seconds >= deadline:
        return False
    if not budget.spend():
        caller.node.counters["retries_refused"] += 1
        return False
    caller.node.counters["retries"] += 1
    await caller.sleep(seconds)
    return True


class Retry:
    """Runs a coroutine function again when it fails with an error that `may_repeat`.

    `timeout`, in seconds, and the deadline of the request being handled end the retries; a try that runs already has
    the deadline of the calls it makes. Keep one `Retry` for all calls of a kind: without `budget` each has its own.
    """

    def __init__(
        self,
        caller: Service,
        *,
        idempotent: bool = False,
        timeout: float = CALL_TIMEOUT_SECONDS,
        settings: RetrySettings = DEFAULT,
        budget: RetryBudget | None = None,
    ) -> None:
        self._caller, self._idempotent, self._timeout, self._settings = caller, idempotent, timeout, settings
        self._budget = budget or RetryBudget(caller.clock.now)

    async def run(self, make: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``make(*args)``, again if need be. Raises what the last try raised; see the module's docstring."""
        caller, retries = self._caller, 0
        unsure: CallError | None = None
        deadline = min(caller.deadline, caller.clock.now() + self._timeout)
        self._budget.called()
        while True:
            try:
                return await make(*args, **kwargs)
            except CallError as error:
                if not (
                    may_repeat(error, idempotent=self._idempotent)
                    and await _wait(caller, retries, self._settings, self._budget, deadline)
                ):
                    _give_up(error, unsure)
                unsure = unsure if isinstance(error, NotExecuted) else error
            retries += 1


async def retry_call(
    caller: Service,
    dest: Address | str,
    ptype: str | int,
    *args: object,
    timeout: float | None = None,
    idempotent: bool = False,
    circuit: bool = False,
    settings: RetrySettings = DEFAULT,
) -> Any:
    """`Service.call` by `caller`, again if it failed and may be repeated; `dest` may be a name, queried each time.

    `timeout` is in seconds, for all tries together, 5 unless told, and never more than what remains of the request
    being handled. With `circuit` every try goes through `call_with_circuit`. The budget is the node's for `dest`.
    Raises what the last try raised, or Unknown when that would hide that an earlier try may have run.
    """
    cell = caller._cell  # what `caller.call` calls, at half its price
    node = cell.node
    budgets = node.shared.get(RetryBudget)
    budget: RetryBudget = (None if budgets is None else budgets.get(dest)) or _budget(caller, dest)
    budget.called()
    deadline = node.now() + (CALL_TIMEOUT_SECONDS if timeout is None else timeout)
    seconds = timeout if settings.attempt_seconds is None else _least(timeout, settings.attempt_seconds)
    retries = 0
    unsure: CallError | None = None
    while True:
        try:
            if circuit:
                circuits: Circuits = node.shared.get(Circuits) or shared_circuits(caller)
                return await circuits.call_with(caller, dest, ptype, args, seconds)
            address = dest if isinstance(dest, Address) else await caller.query(dest)
            return await cell.call(address, ptype, args, seconds)
        except CallError as error:
            if not (
                may_repeat(error, idempotent=idempotent)
                and await _wait(caller, retries, settings, budget, min(deadline, caller.deadline))
            ):
                _give_up(error, unsure)
            unsure = unsure if isinstance(error, NotExecuted) else error
        retries += 1
        seconds = _least(deadline - node.now(), settings.attempt_seconds)


def _least(left: float | None, most: float | None) -> float | None:
    return most if left is None else left if most is None else min(left, most)
