"""A circuit breaker: calls to a service that keeps failing are refused at once, until it answers again.

What to write, instead of ``self.call``::

    user = await call_with_circuit(self, "USER_SERVICE", "lua", "get_user", 42)

A refused call raises NotExecuted with code ``skyloom.circuit_open``. There is one breaker for every service and
method, shared by all services of the node. To choose the numbers, or to hear of changes::

    self.circuits = Circuits(self, BreakerSettings.consecutive(failures=5, open_seconds=60.0))  # as in the tutorial
    self.circuits.watch(lambda change: self.send(console, "lua", "circuit", change.service, change.after.value))
    user = await self.circuits.call(self, "USER_SERVICE", "lua", "get_user", 42)
    user = await self.circuits.of("USER_SERVICE", "get_user").run(users.get_user, 42)  # typed; any coroutine function

            too many failures or slow calls                 open_seconds have passed
    CLOSED ---------------------------------> OPEN --------------------------------> HALF_OPEN
       ^                                        ^                                       |  |
       |                                        +------- the probe fails or is slow ----+  |
       +---------------------- `successes` probes in a row, one at a time, succeed --------+

What counts: an answer is a success, also one that is the callee's own error (a `Failed` with a code of its own): it
works, and says no. Unknown, Expired, an internal error of the callee and NotExecuted are failures. Nothing at all are
a cancellation, an overload (NotExecuted of kind ``resource_exhausted``: shedding load is a breaker of its own) and the
caller's own mistakes. Calls that began before a change of state do not count after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from skyloom.message.address import Address
from skyloom.patterns.circuit import BreakerSettings, CircuitBreaker, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.service.service import Service

__all__ = [
    "BreakerChange",
    "BreakerSettings",
    "CircuitBreaker",
    "Circuits",
    "Outcome",
    "State",
    "call_with_circuit",
    "shared_circuits",
]

BREAKERS_MAX: Final = 10_000
"""Breakers in one `Circuits`; beyond it the oldest closed one is forgotten."""

METHOD_PTYPES: Final[frozenset[str | int]] = frozenset({"lua", "queue", "rpc", 8, 10})
"""Messages whose first argument names a method."""

log = structlog.get_logger("skyloom.breaker")


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A change of state: which breaker, from what to what, why, and when in seconds since 1970."""

    service: Address | str
    method: str
    before: State
    after: State
    reason: str
    time: float


class Circuits:
    """Breakers by service and method, all with the same settings; `service` lends its node's clock and chance."""

    def __init__(self, service: Service, settings: BreakerSettings | None = None) -> None:
        self._node = service.node
        self._settings = settings or BreakerSettings()
        self._breakers: dict[tuple[Address | str, str], CircuitBreaker] = {}
        self._watchers: list[Callable[[BreakerChange], object]] = []

    def of(self, service: Address | str, method: str) -> CircuitBreaker:
        """The breaker of a method of the service of that address or name. Made on first use."""
        found = self._breakers.get((service, method))
        if found is not None:
            return found
        if len(self._breakers) >= BREAKERS_MAX:
            closed = (key for key, breaker in self._breakers.items() if breaker.state is State.CLOSED)
            del self._breakers[next(closed, next(iter(self._breakers)))]

        def changed(before: State, after: State, reason: str) -> None:
            self._tell(BreakerChange(service, method, before, after, reason, self._node.clock.time()))

        breaker = CircuitBreaker(self._node.clock.now, self._node.random, self._settings, changed)
        self._breakers[service, method] = breaker
        return breaker

    def call(
        self, caller: Service, dest: Address | str, ptype: str | int, *args: object, timeout: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """`Service.call` by `caller` through the breaker; `dest` may be a name too, then it is queried each time.

        Raises NotExecuted with code ``skyloom.circuit_open``, and what `Service.call` and `Service.query` raise.
        """
        return self.call_with(caller, dest, ptype, args, timeout)

    async def call_with(
        self, caller: Service, dest: Address | str, ptype: str | int, args: tuple[object, ...], timeout: float | None
    ) -> Any:
        """`call`, its arguments as a tuple."""
        method = args[0] if args and ptype in METHOD_PTYPES else ptype
        if type(method) is not str:
            method = str(method)
        breaker = self._breakers.get((dest, method)) or self.of(dest, method)
        # `breaker.run(caller.call, ...)`, spelt out: this is the path of every call, and passing arguments on is
        # half of what a breaker costs.
        generation = breaker.generation if breaker.closed else breaker.enter()
        now = breaker.now
        started = now()
        try:
            if isinstance(dest, Address):
                answer = await caller._cell.call(dest, ptype, args, timeout)
            else:
                answer = await caller._cell.call_named(dest, ptype, args, timeout)
        except BaseException as error:
            breaker.leave(generation, breaker.judge(error), now() - started)
            raise
        breaker.succeeded(generation, started)
        return answer

    def watch(self, watcher: Callable[[BreakerChange], object]) -> Callable[[], None]:
        """Have ``watcher(change)`` called at every change of state; calling what comes back ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    def _tell(self, change: BreakerChange) -> None:
        self._node.counters[f"circuit_{change.after.value}"] += 1
        log.warning(
            "circuit breaker changed",
            service=str(change.service),
            method=change.method,
            before=change.before.value,
            after=change.after.value,
            reason=change.reason,
        )
        for watcher in list(self._watchers):
            try:
                watcher(change)
            except Exception as error:  # logged; it must not become the error of the call it watches
                log.error("a watcher of circuit breakers failed", exc_info=error)


def call_with_circuit(
    caller: Service, dest: Address | str, ptype: str | int, *args: object, timeout: float | None = None
) -> Coroutine[Any, Any, Any]:
    """`Circuits.call` with the breakers that all services of the node share, which have the default settings."""
    return shared_circuits(caller).call_with(caller, dest, ptype, args, timeout)


def shared_circuits(service: Service) -> Circuits:
    """The breakers that all services of a node share, for `call_with_circuit` and for those who watch them."""
    shared = service.node.shared
    circuits: Circuits | None = shared.get(Circuits)
    if circuits is None:
        circuits = shared[Circuits] = Circuits(service)
    return circuits
