"""Services that run on one node of a cluster at a time: a cluster singleton, as Akka has it.

What to write, on each node that may run them::

    await node.spawn(Singleton, "app.chat", permanent(ChatDatabase), permanent(ChatHub))

The node that gets the lease of that key starts the children, under a supervisor; the others stand by. When the holder
stops, another takes over within `RENEW_SECONDS`; when it dies or loses touch, once its lease has ended. Callers reach
the children by name and find whoever runs them now.

                    has the lease, with a token of its own
    standing by ---------------------------------------------> children run
             ^  not renewed for 7 s, or another has it: they are killed  |
             |  they cannot run here: others may try, and this one rests |
             '-----------------------------------------------------------'

Time is counted from when the renewal was *sent*, so that the holder's lease ends before the keeper's does, by
`LEASE_MARGIN_SECONDS`; that much may clocks differ over one lease.

What can still happen on a node that stood still (a handler that blocks, a frozen process) for longer than its lease:
when it goes on, the children end in the first turn of its event loop, so that nothing that came meanwhile is handled.
But what was half done in that very moment goes on until its next `await`, and through its `finally`: the handler that
blocked, and what was ready to run beside it, messages that had come before among it. So does what is outside of the
event loop: a write that is in a thread or on its way to a database. And a machine that was suspended does not even
know, for its monotonic clock stood still with it: there the children handle messages until the next renewal is
answered, or for what was left of the 7 s when none is.

No lease can prevent that; the *fencing token* can. It is higher for each later holder: send `Singleton.token` along
with what must not be written twice, and let the store refuse a lower one than it has seen.

After Akka's Cluster Singleton, and M. Kleppmann, "How to do distributed locking" (2016), for the token.
"""

from __future__ import annotations

import asyncio
import re
from math import inf
from typing import TYPE_CHECKING, Final

import structlog

from skyloom.cluster.transport import LEASE_MARGIN_SECONDS, LEASE_SECONDS, RENEW_SECONDS, NotConnected
from skyloom.message.errors import CannotStart
from skyloom.service.service import Service
from skyloom.supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skyloom.message.address import Address
    from skyloom.node.clock import Timer
    from skyloom.supervision.child import Child

ASK_AGAIN_SECONDS: Final = 0.5
"""Until the lease is asked for again when there was no answer."""

REST_SECONDS: Final = 5.0
REST_SECONDS_MAX: Final = 60.0
"""How long it stands by after its children could not run here: each time twice as long, up to the second."""

KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

log = structlog.get_logger("skyloom.cluster")


class Singleton(Service):
    """Runs its children on one node at a time; see the module's docstring.

    `key` names the lease: 1 to 64 letters, digits, ``_.-``. `spawn` returns once the children have started, or another
    node has the lease, or cannot be asked; it raises as for a `Supervisor` when they do not start. On a node without a
    transport they simply run, for there is nobody else.

    When they do not start after a takeover, or their supervisor gives up, it gives the lease back, so that another
    node may try, and rests: for `REST_SECONDS`, and longer each time. On a node without a transport it crashes, and as
    a root, which nobody supervises, that ends the node (`Node.fail`). What it counts, in `Node.counters`:
    `singleton_taken`, `singleton_lost` when it had to end the children, and `singleton_failed` when they ended.
    """

    # The children have a time of their own.
    start_seconds = None
    stop_seconds = None

    def __init__(self, key: str, *children: Child) -> None:
        if KEY.fullmatch(key) is None:
            raise ValueError(f"key: 1 to 64 letters, digits, _.- are needed, got {key[:80]!r}")
        self.key = key
        self.token = 0
        """The fencing token of the lease that the children run under; 0 while they do not."""
        self._children = children
        self._supervisor: Address | None = None
        self._starting: asyncio.Task[Exception | None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._lapse: Timer | None = None
        self._up = False
        self._spent = 0  # a token under which children ran that have been ended
        self._rests = 0  # times in a row
        self._rests_until = -inf
        self._taken_at = -inf
        self._section = self.queue()  # one question about the lease at a time
        self._cell.children = {}

    async def on_info(self) -> Mapping[str, object]:
        """Its key, and its token: 0 when another node runs the children."""
        return {"key": self.key, "token": self.token}

    async def on_start(self) -> None:
        """Ask for the lease; start the children if it is ours."""
        for cell in self.node.cells.values():
            if isinstance(cell.service, Singleton) and cell.service is not self and cell.service.key == self.key:
                raise CannotStart(f"this node has a singleton {self.key!r} already; give this one another key")
        if self.node.harbor.connected:
            await self._ask()
            self._keeping = self.fork(self._keep(), critical=True)
        else:
            self._take(await self.node.harbor.hold(self.key))
        while self._starting is not None and not self._starting.done():
            await asyncio.wait([self._starting])
        error = None if self._starting is None else self._starting.result()
        if error is not None:
            raise error
        self._up = True

    async def on_stop(self) -> None:
        """Stop the children, and only then give the lease back."""
        if self._supervisor is not None:
            self.unmonitor(self._supervisor, self._on_children_down)
            await self.node.services.shut(self._supervisor, None)
        async with self._section:
            if self._keeping is not None:
                self._keeping.cancel()
            if self._lapse is not None:
                self._lapse.cancel()
            self.token = 0
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    await self.node.harbor.release(self.key)
            except (NotConnected, TimeoutError) as error:
                log.warning("a lease was not given back; it ends by itself", key=self.key, reason=repr(error))

    # -- the lease -------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Take the lease or renew it, again and again, as long as this service lives."""
        due = self.clock.now()
        pause = RENEW_SECONDS
        while True:
            due = max(due + pause, self.clock.now())
            await self.sleep(due - self.clock.now())
            pause = RENEW_SECONDS if await self._ask() else ASK_AGAIN_SECONDS

    async def _ask(self) -> bool:
        """Ask for the lease, or give it back while this node rests. False when there was no answer."""
        harbor = self.node.harbor
        async with self._section:
            sent = self.clock.now()
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    token = 0 if sent < self._rests_until else await harbor.hold(self.key)
                    if self._spent and token in (0, self._spent):
                        await harbor.release(self.key)  # nothing happens if another has it
                        token = self._spent = 0
            except (NotConnected, TimeoutError) as error:
                log.debug("a lease is not known", key=self.key, reason=repr(error))
                return False
            self._answered(token, sent + LEASE_SECONDS - LEASE_MARGIN_SECONDS)
            return True

    def _answered(self, token: int, until: float) -> None:
        """Another node has the lease (0), or this one until then."""
        if self.clock.now() >= until:
            return  # an answer from before this node stood still says nothing about now
        if self.token not in (0, token):
            self._lose("it had ended, and is taken anew" if token else "another node has it")
        if token and (self.token or not self._cell.ending):
            if self._lapse is not None:
                self._lapse.cancel()
            # The clock's own callback, not a task: it runs before any message that came with it in one turn.
            self._lapse = self.clock.call_at(until, self._lapsed)
            if not self.token:
                self._take(token)

    def _lapsed(self) -> None:
        if self.token and self.address in self.node.cells:
            self._lose("it could not be renewed in time")

    # -- the children ----------------------------------------------------------------------------------------

    def _take(self, token: int) -> None:
        """Start the children."""
        self.token = token
        self._taken_at = self.clock.now()
        self.node.counters["singleton_taken"] += 1
        log.info("a singleton runs here", key=self.key, token=token)
        supervisor = self.node.services.make(Supervisor, self._children, {}, self._cell)
        self._supervisor = supervisor.address
        self._starting = self.fork(self._start(supervisor))

    async def _start(self, supervisor: Supervisor) -> Exception | None:
        """Start them; what kept them from it is returned to `on_start`."""
        try:
            await self.node.services.begin(supervisor)
        except Exception as error:  # noqa: BLE001  # a service's on_start may raise anything
            if supervisor.address != self._supervisor or self._cell.ending:
                return None  # their end was meant
            if self._up:
                self._give_up(str(error))
            return error
        self.monitor(supervisor.address, self._on_children_down)
        return None

    async def _on_children_down(self, _: Address, how: str) -> None:
        how = f"the supervisor of its children {how}"
        if self.node.harbor.connected:
            self._give_up(how)
        else:
            self.crash(how)

    def _give_up(self, why: str) -> None:
        """The children cannot run here: let others try."""
        if self.clock.now() - self._taken_at > REST_SECONDS_MAX:
            self._rests = 0
        seconds = min(REST_SECONDS_MAX, REST_SECONDS * 2.0**self._rests)
        self._rests += 1
        self._rests_until = self.clock.now() + seconds
        self.node.counters["singleton_failed"] += 1
        log.error("a singleton cannot run here, which rests", key=self.key, seconds=seconds, reason=why)
        self._lose("it cannot run here")

    def _lose(self, why: str) -> None:
        """End the children here and now: nothing of theirs is waited for, least of all an `on_stop`."""
        log.warning("a singleton has ended here", key=self.key, token=self.token, reason=why)
        self.node.counters["singleton_lost"] += 1
        self.token, self._spent = 0, self.token
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            self.unmonitor(supervisor, self._on_children_down)
            self.kill(supervisor)


def fencing_token(service: Service) -> int:
    """The token of the lease under which a service runs, as a child of a `Singleton`; 0 for any other service."""
    cell = service._cell.owner
    while cell is not None:
        if isinstance(cell.service, Singleton):
            return cell.service.token
        cell = cell.owner
    return 0
