r"""A supervisor: a service that starts other services, and starts them anew when they crash.

What to write::

    class Game(Supervisor):
        strategy = "rest_for_one"
        children = (permanent(World), permanent(Ranking), transient(Tournament, 64))


    game = await node.spawn(Game)
    match = await Supervisor.at(self, game).start_child(transient(Match, 7).but(id="match-7"))

or, without a class: ``await node.spawn(Supervisor, permanent(World), permanent(Ranking), strategy="one_for_all")``.

                    on_start raises, crash(), a critical fork fails, killed
    child: running ----------------------------------------------------> restarting --(back-off)--> running
             | exits by itself                                               | over the intensity
             v                                                               v
           transient: ended; temporary: forgotten;            the supervisor stops all children and crashes:
           permanent: restarting                              its own supervisor restarts it, or the node ends

A handler that raises is no crash: it fails its own call. What a crashed service was handling and what waited in its
mailbox is not delivered again; the names it had move to its successor, so that calls by name find it. Those who hold
the address of a child see NotExecuted ("skyloom.no_service") and query again; better, they call by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn, cast

import structlog

from skyloom.message.errors import Failed, NameTaken
from skyloom.message.value import Handed
from skyloom.node.services import EXITED
from skyloom.service.rpc import Proxy, rpc
from skyloom.service.service import Service
from skyloom.supervision.child import Child, ChildStatus, State
from skyloom.supervision.intensity import Intensity

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import Self

    from skyloom.message.address import Address
    from skyloom.node.cell import Cell
    from skyloom.service.timer import Timer

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]

STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")

CHILDREN_MAX: Final = 100_000
"""Children that one supervisor has at once."""

CHILDREN_SHOWN_MAX: Final = 100
"""Children that it shows an operator who asks."""

log = structlog.get_logger("skyloom.supervisor")


class ChildRefused(Failed, code="skyloom.child_refused", kind="failed_precondition"):
    """A child of that id is there already, the supervisor has as many as it may, or it lives on another node."""


class _Slot:
    """One child: what it is to be, and what it is now."""

    __slots__ = ("cell", "child", "due", "ended", "id", "restarts")

    def __init__(self, id: str, child: Child) -> None:
        self.id = id
        self.child = child
        self.cell: Cell | None = None
        self.due: float | None = None
        self.ended = False
        self.restarts = 0

    @property
    def state(self) -> State:
        return "ended" if self.ended else "running" if self.due is None else "restarting"


class Supervisor(Service):
    """Subclass it, or give the children to `spawn`; see the module's docstring.

    Children start in order, one after the other, each when the one before it has started; they stop in reverse, each
    with its `stop_seconds` before it is killed. The first start of each must succeed, or the supervisor does not
    start. One that nobody supervises is a root: when it gives up, or is killed, its node ends (`Node.fail`).
    """

    strategy: ClassVar[Strategy] = "one_for_one"
    """Who is started anew with a child that crashed: it alone, all, or it and those after it."""

    restarts_max: ClassVar[int] = 3
    """Restarts within `period_seconds`; at one more the supervisor gives up."""

    period_seconds: ClassVar[float] = 5.0
    """The window of `restarts_max`."""

    children: ClassVar[Sequence[Child]] = ()
    """The children it starts with, before those that are given to `spawn`."""

    # Each child has a time of its own.
    start_seconds = None
    stop_seconds = None

    def __init__(
        self,
        *children: Child,
        strategy: Strategy | None = None,
        restarts_max: int | None = None,
        period_seconds: float | None = None,
    ) -> None:
        self._strategy = strategy or self.strategy
        if self._strategy not in STRATEGIES:
            raise ValueError(f"strategy: {self._strategy!r} is none of {', '.join(STRATEGIES)}")
        self._intensity = Intensity(
            self.restarts_max if restarts_max is None else restarts_max,
            self.period_seconds if period_seconds is None else period_seconds,
        )
        self._first = (*self.children, *children)
        self._slots: dict[str, _Slot] = {}
        self._alive: dict[Address, _Slot] = {}
        self._timers: list[Timer] = []
        self._numbered = 0
        # Children start and stop one at a time; between two of those steps anything may have happened.
        self._section = self.queue()
        self._cell.children = {}

    # -- for others ------------------------------------------------------------------------------------------

    @classmethod
    def at(cls, caller: Service, address: Address | str, *, timeout: float | None = None) -> Self:
        """See `Service.at`; the way to reach `start_child`, `stop_child` and `list_children`."""
        return cast("Self", _SupervisorProxy(cls, caller, address, timeout))

    @rpc
    async def start_child(self, child: Child) -> Address:
        """Start one more child, after all others; it is supervised like them. On the supervisor's own node only.

        Raises ChildRefused, NameTaken as Failed, and Failed ("skyloom.start_failed"), after which it is not a child.
        """
        wanted = child.value if isinstance(child, Handed) else child
        if not isinstance(wanted, Child):
            raise ChildRefused("a child can only be given to a supervisor of the same node")
        async with self._section:
            slot = self._add(wanted)
            try:
                await self._start(slot)
            except NameTaken as error:
                raise ChildRefused(str(error)) from None
            finally:
                if slot.cell is None:
                    del self._slots[slot.id]
            assert slot.cell is not None
            return slot.cell.address

    @rpc
    async def stop_child(self, id: str) -> bool:
        """Stop a child and forget it. False when there is none of that id."""
        async with self._section:
            slot = self._slots.pop(id, None)
            if slot is None:
                return False
            await self._stop([slot])
            return True

    @rpc
    async def list_children(self) -> list[ChildStatus]:
        """All children in their order."""
        return [
            ChildStatus(
                slot.id,
                slot.child.service.__name__,
                slot.child.restart,
                slot.state,
                slot.cell.address if slot.cell is not None and slot.cell.address in self._alive else None,
                slot.restarts,
            )
            for slot in self._slots.values()
        ]

    async def on_info(self) -> Mapping[str, object]:
        """Its strategy, and how its children fare."""
        children = await self.list_children()
        return {"strategy": self._strategy, "children": children[:CHILDREN_SHOWN_MAX]}

    # -- its own life ----------------------------------------------------------------------------------------

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        """`Service.on_check` of the class's children."""
        for child in cls.children:
            child.service.on_check(env)

    async def on_start(self) -> None:
        """Start the children. When you override it, call this at its end."""
        async with self._section:
            try:
                for child in self._first:
                    await self._start(self._add(child))
            except Exception:
                await self._stop(reversed(self._slots.values()))
                raise

    async def on_stop(self) -> None:
        """Stop the children. When you override it, call this first."""
        for timer in self._timers:
            timer.cancel()
        async with self._section:
            await self._stop(reversed(self._slots.values()))

    # -- starting and stopping -------------------------------------------------------------------------------

    def _add(self, child: Child) -> _Slot:
        id = child.id or child.service.name
        while id is None or (child.id is None and child.service.name is None and id in self._slots):
            self._numbered += 1
            id = f"{child.service.__name__}-{self._numbered}"
        if id in self._slots:
            raise ChildRefused(f"there is a child {id!r} already; give this one another id: .but(id=...)")
        if len(self._slots) >= CHILDREN_MAX:
            raise ChildRefused(f"there are {CHILDREN_MAX} children already")
        slot = self._slots[id] = _Slot(id, child)
        return slot

    async def _start(self, slot: _Slot) -> None:
        """Start a child, and give it the names that its predecessor had. Raises what `spawn` raises."""
        child, before = slot.child, slot.cell
        services = self.node.services
        service = services.make(child.service, child.args, child.kwargs, self._cell)
        address = await services.begin(service)
        slot.cell = service._cell
        slot.due = None
        self._alive[address] = slot
        self.monitor(address, self._on_child_down)
        for name in () if before is None else before.names:
            if self.node.names.find(name) is None:
                self.node.register(name, address)

    async def _stop(self, slots: Iterable[_Slot]) -> None:
        """Stop those that run, one after the other, in this order."""
        for slot in list(slots):
            cell = slot.cell
            if cell is None or self._alive.pop(cell.address, None) is None:
                continue
            self.unmonitor(cell.address, self._on_child_down)  # its end is meant
            seconds = slot.child.stop_seconds
            await self.node.services.shut(cell.address, cell.service.stop_seconds if seconds is None else seconds)

    # -- crashes ---------------------------------------------------------------------------------------------

    async def _on_child_down(self, address: Address, how: str) -> None:
        slot = self._alive.pop(address, None)
        if slot is None:
            return
        async with self._section:
            if self._slots.get(slot.id) is not slot or slot.due is not None:
                return  # stopped, or counted, while this waited for its turn
            if slot.child.restart == "temporary":
                del self._slots[slot.id]
            elif slot.child.restart == "transient" and how == EXITED:
                slot.ended = True
            else:
                await self._mend(slot, how)

    async def _mend(self, slot: _Slot, how: str) -> None:
        """Stop those who go down with a child that crashed, and have all of them started once the wait is over."""
        if not self._intensity.crashed(self.clock.now()):
            await self._give_up(slot, how)
        group = self._group(slot)
        slot.due = self.clock.now()  # meanwhile; it is not running
        await self._stop(reversed(group))
        for other in group:
            if other.child.restart == "temporary":
                del self._slots[other.id]
        delay = self._intensity.delay(self.random)
        log.warning("a child is started again", supervisor=self.title, child=slot.id, how=how, seconds=round(delay, 3))
        due = self.clock.now() + delay
        for other in group:
            if not other.ended:
                other.due = due
        self._timers = [timer for timer in self._timers if timer.active]
        self._timers.append(self.timeout(delay, self._revive, due))

    def _group(self, slot: _Slot) -> list[_Slot]:
        slots = list(self._slots.values())
        if self._strategy == "one_for_all":
            return slots
        if self._strategy == "rest_for_one":
            return slots[slots.index(slot) :]
        return [slot]

    async def _revive(self, due: float) -> None:
        """Start those whose wait is over, in order. One that does not start has crashed again."""
        async with self._section:
            for slot in list(self._slots.values()):
                if slot.due is None or slot.due > due:
                    continue
                try:
                    await self._start(slot)
                except Exception as error:  # noqa: BLE001  # a class's __init__ may raise anything; it is logged below
                    await self._mend(slot, f"did not start again: {error}")
                else:
                    slot.restarts += 1
                    self.node.counters["restarts"] += 1
                    log.info("a child is back", supervisor=self.title, child=slot.id, restarts=slot.restarts)

    async def _give_up(self, slot: _Slot, how: str) -> NoReturn:
        """Over the intensity: leave it to our own supervisor, or to the node."""
        most = self._intensity
        await self._stop(reversed(self._slots.values()))
        self.crash(f"child {slot.id}, after {most.restarts_max} restarts in {most.period:g} s, {how}")


class _SupervisorProxy(Proxy):
    """A `Proxy` that can send a `Child`, which is no value: its class and arguments are handed over as they are."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        call = super().__getattr__(name)
        return lambda *args: call(*(Handed(arg) if isinstance(arg, Child) else arg for arg in args))
