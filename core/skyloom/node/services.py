"""A node's services: how they are born, who is told of their end, and how they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from skyloom.message.address import HANDLE_MAX, Address
from skyloom.message.errors import CallError, CannotStart, Failed, NameTaken, NotExecuted, Unknown
from skyloom.message.message import Message
from skyloom.message.ptype import Ptype
from skyloom.node.cell import Cell
from skyloom.node.dead_letters import traceback_text
from skyloom.service.crash import Crash
from skyloom.service.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skyloom.node.node import Node

STOP_SECONDS: Final = 5.0
"""How long the handler that called `exit` may take."""

EXITED: Final = "exited"
"""How a service ended that ended by itself, as `on_down` is told; every other end is a crash to its supervisor."""

SERVICES_MAX: Final = 1_000_000
"""Services that one node holds at once."""

_S = TypeVar("_S", bound=Service)

log = structlog.get_logger("skyloom.node")


class Services:
    """Starts the services of a node, keeps who monitors and who supervises whom, and ends them.

    Their cells are in `Node.cells`, where messages find them. `monitors` says who is told of whose end.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.monitors: dict[Address, set[Address]] = {}
        self.recordings: dict[str | None, str] = {}
        """The files to which the next service of a name is recorded; see `Node.record`."""
        self.last_handle = 0
        self._starting: dict[str, asyncio.Future[Address]] = {}
        self._ending: dict[Address, asyncio.Task[None]] = {}

    # -- birth ---------------------------------------------------------------------------------------------

    def make(self, cls: type[_S], args: tuple[object, ...], kwargs: Mapping[str, Any], owner: Cell | None = None) -> _S:
        """A new service, which has not started yet, and ends when `owner`, its supervisor, does.

        Raises NameTaken, and NotExecuted when the node takes no more.
        """
        node = self._node
        if cls.name is not None and node.names.find(cls.name) is not None:
            node.names.register(cls.name, Address(node.name, 0))  # raises NameTaken, and says by whom
        if len(node.cells) >= SERVICES_MAX:
            raise NotExecuted(f"this node has {SERVICES_MAX} services", code="skyloom.overloaded")
        if self.last_handle >= HANDLE_MAX:
            raise NotExecuted("this node has used up its handles; restart it", code="skyloom.overloaded")
        self.last_handle += 1
        address = Address(node.name, self.last_handle)
        service = cls.__new__(cls)
        # Before __init__, so that a user's __init__ need not call ours and may already send.
        cell = service._cell = self.make_cell(address, service)
        service.__init__(*args, **kwargs)  # type: ignore[misc]  # the class is the user's, so are the arguments
        node.cells[address] = cell
        if owner is not None:
            cell.owner = owner
            owner.children = owner.children or {}
            owner.children[address] = cell
        return service

    def make_cell(self, address: Address, service: Service) -> Cell:
        """The cell of a new service. Those who watch over its messages give it one of their own."""
        path = self.recordings.pop(type(service).name, None)
        if path is not None:
            from skyloom.testing.record import recorded_cell  # only when asked for

            return recorded_cell(self._node, address, service, path)
        return Cell(self._node, address, service)

    async def spawn(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """`Node.spawn`."""
        return await self.begin(self.make(cls, args, kwargs))

    async def begin(self, service: Service) -> Address:
        """Start a service that `make` made; raises what `spawn` raises."""
        cls, cell = type(service), service._cell
        if cls.on_start is not Service.on_start:
            await self._run_on_start(cell)
        if cls.name is not None:
            try:
                service.register(cls.name)
            except (NameTaken, ValueError):  # another one took it while this one started
                self.bury(cell, "did not start")
                raise
        cell.started = True
        cell.wake()
        return cell.address

    async def _run_on_start(self, cell: Cell) -> None:
        seconds = cell.service.start_seconds

        async def run() -> Exception | None:
            try:
                async with asyncio.timeout(seconds) as limit:
                    await cell.service.on_start()
            except Exception as error:  # noqa: BLE001 - told below, once
                if limit.expired():
                    error.args = (f"on_start took longer than its start_seconds, {seconds:g}",)
                return error
            return None

        title = cell.service.title
        task = self._node.run_task(cell, run(), f"{title} on_start")
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self.bury(cell, "killed while it started")
            raise
        error = None if task.cancelled() else task.result()
        if error is None and cell.address in self._node.cells:
            return
        self.bury(cell, "did not start")
        if isinstance(error, Failed) and error.code == "skyloom.start_failed":
            raise error  # a supervisor's child did not start: that was logged, and is what there is to say
        how = "it ended" if error is None else str(error)
        if error is not None and not isinstance(error, CannotStart):
            how = f"{type(error).__name__}: {error}"
            # No puzzle when a service that it needs is away.
            if not isinstance(error, CallError) or error.kind not in ("unavailable", "deadline_exceeded"):
                log.error("service did not start", service=title, exc_info=error)
        raise Failed(f"{title} did not start: {how}", code="skyloom.start_failed") from error

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """`Node.unique`."""
        node = self._node
        if cls.name is None:
            raise ValueError(f"{cls.__name__} needs a class attribute `name` to be unique")
        found = node.names.find(cls.name)
        if found is not None:
            return found
        starting = self._starting.get(cls.name)
        if starting is None:
            spawning = self.spawn(cls, *args, **kwargs)
            starting = self._starting[cls.name] = node.run_task(node.root._cell, spawning, f"start {cls.name}")
            starting.add_done_callback(lambda _: self._starting.pop(str(cls.name), None))
        return await asyncio.shield(starting)

    # -- end -----------------------------------------------------------------------------------------------

    def kill(self, address: Address) -> bool:
        """`Node.kill`."""
        node = self._node
        cell = node.cells.get(address)
        if cell is not None:
            self.bury(cell, "was killed")
            return True
        return address.node != node.name and node.harbor.kill(address)

    def crash(self, cell: Cell, error: BaseException, poison: Message | None) -> None:
        """End a service at once, for its own fault; see `Service.crash`. `poison` is the message that did it."""
        node = self._node
        if node.cells.get(cell.address) is not cell:
            return
        node.counters["crashes"] += 1
        text = str(error) if isinstance(error, Crash) else f"{type(error).__name__}: {error}"
        log.error("service crashed", service=cell.service.title, reason=text, exc_info=error.__traceback__ and error)
        if poison is not None:
            node.dead_letters.add(node.clock.time(), cell.address, poison, "skyloom.crashed", traceback_text(error))
        self.bury(cell, f"crashed: {text}")

    def exit(self, cell: Cell, keep: Message | None, seconds: float | None = None) -> None:
        """Have a service end: refuse what waits, fail what runs but for `keep`, await that, `on_stop`, bury it.

        `on_stop` may take so many seconds, or else the service's own `stop_seconds`.
        """
        if cell.ending:
            return
        node, started = self._node, cell.started
        cell.held()  # the answers in the mailbox may be what `keep` waits for
        cell.ending, cell.inline = True, False
        running = node.executor.running(cell, keep)
        leaving = {message: node.loop.create_future() for message in running}
        node.executor.leaving.update(leaving)
        self._refuse_mailbox(cell)
        self._fail_open(cell, "exited", keep if keep in leaving else None)
        ending = node.run_task(
            node.root._cell, self._end(cell, leaving, started, seconds), f"{cell.service.title} exit"
        )
        self._ending[cell.address] = ending
        ending.add_done_callback(lambda _: self._ending.pop(cell.address))

    async def _end(
        self, cell: Cell, leaving: dict[Message, asyncio.Future[None]], started: bool, seconds: float | None
    ) -> None:
        title = cell.service.title
        try:
            if leaving:
                _, stuck = await asyncio.wait(leaving.values(), timeout=STOP_SECONDS)
                if stuck:
                    log.error("service has handlers that do not end", service=title, handlers=len(stuck))
            if started:
                async with asyncio.timeout(cell.service.stop_seconds if seconds is None else seconds):
                    await cell.service.on_stop()
        except Exception as error:
            log.error("service did not stop cleanly", service=title, exc_info=error)
        finally:
            for message in leaving:
                self._node.executor.leaving.pop(message, None)
            self.bury(cell, EXITED)

    async def shut(self, address: Address, seconds: float | None) -> bool:
        """Have a service of this node exit, and kill it after so many seconds. True when it ended by itself."""
        cell = self._node.cells.get(address)
        if cell is None:
            return True
        self.exit(cell, None, seconds)
        ending = self._ending[address]
        await asyncio.wait([ending], timeout=seconds)
        if address not in self._node.cells:
            return True
        log.error("service did not stop in time and was killed", service=cell.service.title, seconds=seconds)
        self.bury(cell, "did not stop in time")
        return False

    async def stop(self) -> None:
        """Have every service but the root exit, the youngest first; those with a supervisor are stopped by it."""
        node = self._node
        for cell in reversed(list(node.cells.values())):
            if cell.address in node.cells and cell.service is not node.root and cell.owner is None:
                self.exit(cell, None)
                if cell.address in self._ending:
                    await asyncio.wait([self._ending[cell.address]])

    def bury(self, cell: Cell, how: str) -> None:
        """Take a service out of the world: nobody can reach it, and everybody who waits for it is told."""
        node = self._node
        if node.cells.pop(cell.address, None) is None:
            return
        is_root = cell.started and cell.children is not None and cell.owner is None
        cell.ending, cell.inline, cell.started = True, False, False
        self._refuse_mailbox(cell)
        self._fail_open(cell, how, None)
        for child in reversed(list((cell.children or {}).values())):
            self.bury(child, "ended with its supervisor")
        if cell.owner is not None and cell.owner.children is not None:
            cell.owner.children.pop(cell.address, None)
        ending = self._ending.get(cell.address)
        if ending is not None and ending is not asyncio.current_task():
            ending.cancel()  # its on_stop, when it is killed meanwhile
        for task in list(cell.tasks or ()):
            task.cancel()
        waiting, cell.pending = cell.pending, None
        for pending in (waiting or {}).values():
            # Most who wait were just cancelled; tasks that the service does not own were not.
            pending.settle(Unknown(f"{cell.service.title} {how} while it waited for an answer"))
        cell.names = node.names.forget(cell.address)
        node.harbor.withdraw(cell.names, cell.address)
        for target in sorted(cell.watching or ()):
            self.unmonitor(cell.address, target)
        for watcher in sorted(self.monitors.pop(cell.address, ())):  # sorted, for a set's order does not repeat
            watching = node.cells.get(watcher)
            if watching is not None and watching.watching is not None:
                watching.watching.discard(cell.address)
            node.post(watcher, Message(int(Ptype.ERROR), cell.address, 0, (how,)))
        if is_root and how != EXITED:
            node.fail(f"{cell.service.title} {how}")

    def _refuse_mailbox(self, cell: Cell) -> None:
        mailbox, cell.mailbox, cell.mailbox_bytes = cell.mailbox, None, 0
        ended = NotExecuted(f"{cell.service.title} has ended", code="skyloom.service_ended")
        for message in mailbox or ():
            self._node.refuse(message, cell.address, ended)

    def _fail_open(self, cell: Cell, how: str, keep: Message | None) -> None:
        for message in list(cell.open or ()):
            if message is keep or not message.session:
                continue
            cell.release(message)
            message.taken = True
            self._node.answer(message, Unknown(f"{cell.service.title} {how} while it handled the call"))
        for worker in list(cell.workers or ()):
            if worker.message is not keep or keep is None:
                worker.task.cancel()

    # -- ties ----------------------------------------------------------------------------------------------

    def monitor(self, watcher: Address, target: Address) -> None:
        """Have `watcher` told, by its `on_down`, when `target` ends; at once if it is not alive."""
        node = self._node
        if target.node == node.name:
            alive = target in node.cells
        else:
            alive = node.harbor.monitor(watcher, target)
        if alive:
            self.monitors.setdefault(target, set()).add(watcher)
            cell = node.cells.get(watcher)
            if cell is not None:
                if cell.watching is None:
                    cell.watching = set()
                cell.watching.add(target)
        else:
            node.post(watcher, Message(int(Ptype.ERROR), target, 0, ("is not alive",)))

    def unmonitor(self, watcher: Address, target: Address, *, tell: bool = True) -> None:
        """Take back `monitor`."""
        watchers = self.monitors.get(target)
        if watchers is None:
            return
        watchers.discard(watcher)
        if not watchers:
            del self.monitors[target]
        cell = self._node.cells.get(watcher)
        if cell is not None and cell.watching is not None:
            cell.watching.discard(target)
        if tell and target.node != self._node.name:
            self._node.harbor.unmonitor(watcher, target)
