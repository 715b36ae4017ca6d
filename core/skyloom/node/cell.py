"""A service's place in its node: mailbox, sessions, running handlers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import structlog

from skyloom.message.errors import CallError, Expired, NotExecuted
from skyloom.message.message import NEVER, SESSION_MAX, Message
from skyloom.message.protocol import BUILTIN, Protocol
from skyloom.message.ptype import Ptype
from skyloom.message.value import ATOMS, all_atoms, weigh
from skyloom.node.handling import begin
from skyloom.node.pending import OPEN, Pending
from skyloom.node.worker import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.message.address import Address
    from skyloom.node.node import Node
    from skyloom.node.worker import Worker
    from skyloom.service.service import Service

CALL_TIMEOUT_SECONDS: Final = 5.0
"""The deadline of a call that names none and inherits none."""

INLINE_DEPTH_MAX: Final = 24
"""Calls nested in one stack; a deeper one goes through the mailbox."""

PRESSURE_SHARE: Final = 8
"""A mailbox that is filled to one part in so many is logged for the first time, then at each doubling."""

PRESSURE_MESSAGES_MIN: Final = 16
"""Messages that may always wait without a word in the log, if the mailbox takes so many."""

_new = object.__new__
_LUA, _QUEUE, _ERROR = int(Ptype.LUA), int(Ptype.QUEUE), int(Ptype.ERROR)

log = structlog.get_logger("skyloom.service")

ANSWER: Final = -1
"""The type of an answer in a mailbox; no message from outside has it."""


class Cell:
    """What the node keeps for one service. Everything here is the runtime's; users see `Service`.

    A cell is `inline` while a caller may run a handler at once: started, alive, nothing in the mailbox, not serial,
    and fewer handlers half-run than `concurrency`.
    """

    __slots__ = (
        "_session",
        "address",
        "answers_queued",
        "bytes_max",
        "children",
        "concurrency",
        "ending",
        "executor",
        "handled",
        "handlers",
        "inline",
        "mailbox",
        "mailbox_bytes",
        "messages_max",
        "methods",
        "names",
        "node",
        "open",
        "owner",
        "pending",
        "pressure",
        "protocols",
        "queued",
        "quick",
        "quick_rpc",
        "running",
        "serial",
        "service",
        "started",
        "tasks",
        "unopened",
        "watching",
        "watermark",
        "workers",
    )

    def __init__(self, node: Node, address: Address, service: Service) -> None:
        self.node = node
        self.executor = node.executor
        self.address = address
        self.service = service
        self.methods = type(service).rpc_methods
        self.serial = type(service).serial
        self.concurrency = 1 if self.serial else type(service).handlers_max
        self.protocols: dict[str | int, Protocol] = BUILTIN
        self.messages_max = type(service).mailbox_messages_max
        self.bytes_max = type(service).mailbox_bytes_max
        self.handlers: dict[int, Callable[..., Coroutine[Any, Any, object]]] | None = None
        self.unopened: frozenset[int] = frozenset()
        # What a worker may start without `begin`: handlers of unpacked arguments, and rpc methods.
        self.quick: dict[int, Callable[..., Coroutine[Any, Any, object]]] | None = None
        self.quick_rpc = True
        self.started = False
        self.ending = False
        self.inline = False
        self.queued = False
        self.running = 0
        self.handled = 0
        self.mailbox: deque[Message] | None = None
        self.mailbox_bytes = 0
        self.answers_queued = 0
        self.pending: dict[int, Pending] | None = None
        self.open: dict[Message, Worker | None] | None = None
        self.workers: set[Worker] | None = None
        self.tasks: set[asyncio.Task[Any]] | None = None
        self.watching: set[Address] | None = None
        self.owner: Cell | None = None
        self.children: dict[Address, Cell] | None = None
        self.names: list[str] = []
        self.watermark = min(max(PRESSURE_MESSAGES_MIN, self.messages_max // PRESSURE_SHARE), self.messages_max)
        self.pressure = 0
        self._session = 0

    # -- sending ---------------------------------------------------------------------------------------------

    def protocol(self, ptype: str | int) -> Protocol:
        """The protocol of that name or id. Raises LookupError for one that this service does not know."""
        found = self.protocols.get(ptype)
        if found is None:
            known = ", ".join(sorted(key for key in self.protocols if isinstance(key, str)))
            method = f"; to call a method, write call(dest, 'lua', {ptype!r}, ...)" if isinstance(ptype, str) else ""
            raise LookupError(f"no protocol {ptype!r} here; register_protocol it, or use one of {known}{method}")
        return found

    def _session_for(self, deadline: float, now: float) -> int:
        """The next free session, for a call that may be made. Raises NotExecuted for one that may not."""
        if not deadline < NEVER:
            raise ValueError("timeout: a finite number of seconds is needed, for every call must end")
        if deadline <= now:
            raise NotExecuted("the deadline had passed before the call", code="skyloom.deadline_passed")
        if self.ending and self.address not in self.node.cells:
            raise NotExecuted("this service has ended", code="skyloom.service_ended")
        session = self._session
        pending = self.pending or {}
        while True:
            session = session + 1 if session < SESSION_MAX else 1
            if session not in pending:
                return session

    def send(self, dest: Address | str, ptype: str | int, args: tuple[object, ...]) -> None:
        """Post a message that wants no answer."""
        protocol = self.protocols.get(ptype) or self.protocol(ptype)
        plain = protocol.pack is None and all_atoms(map(type, args))
        outer = CURRENT.get()
        message = Message(
            protocol.id,
            self.address,
            0,
            args if plain else protocol.to_payload(args),
            NEVER,
            None if outer is None else outer.trace,
        )
        if isinstance(dest, str):
            found = self.node.names.find(dest)
            if found is None:
                self.node.post_named(self, dest, message)
                return
            dest = found
        target = self.node.cells.get(dest)
        if target is not None:
            target.enqueue(message)
        else:
            self.node.post(dest, message)

    def ask(self, dest: Address, ptype: str | int, args: tuple[object, ...], timeout: float | None) -> Any:
        """Post a request. Returns its answer if that is there at once, else the `Pending` that will have it.

        Raises:
            CallError: the request failed at once.
        """
        node, executor = self.node, self.executor
        protocol = self.protocols.get(ptype) or self.protocol(ptype)
        plain = protocol.pack is None
        if plain:
            for arg in args:
                if type(arg) not in ATOMS:
                    plain = False
                    break
        now = node.now()
        deadline = now + (CALL_TIMEOUT_SECONDS if timeout is None else timeout)
        trace = None
        outer = CURRENT.get()
        if outer is not None:
            trace = outer.trace
            if outer.deadline < deadline:
                deadline = outer.deadline
        session = self._session + 1
        if not now < deadline < NEVER or session > SESSION_MAX or self.pending or self.ending:
            session = self._session_for(deadline, now)
        self._session = session
        # Not `Message(...)`: calling a class with an __init__ costs twice as much, a tenth of the whole call.
        message = _new(Message)
        message.ptype = protocol.id
        message.source = self.address
        message.session = session
        message.payload = args if plain else protocol.to_payload(args)
        message.deadline = deadline
        message.trace = trace
        message.taken = False
        target = node.cells.get(dest)
        if target is None or not target.inline or executor.inline_left <= 0 or executor.depth >= INLINE_DEPTH_MAX:
            return self.post(message, dest, protocol)
        try:
            answer = executor.step(target, message, protocol)
        except CallError as error:
            if not self._behind():
                raise
            return self._queue_answer(message, dest, protocol, error)
        if answer is OPEN:
            return self._follow(self._claimed(message, dest, protocol), protocol)
        if not self.mailbox or not self._behind():
            return answer
        return self._queue_answer(message, dest, protocol, (answer,))

    async def call(self, dest: Address, ptype: str | int, args: tuple[object, ...], timeout: float | None) -> Any:
        """Post a request and wait for its answer. Raises CallError; see `Service.call`."""
        answer = self.ask(dest, ptype, args, timeout)
        if type(answer) is not Pending:
            return answer
        if answer.outcome is OPEN:
            future: asyncio.Future[None] = self.node.loop.create_future()
            answer.on_settled = lambda _: None if future.done() else future.set_result(None)
            try:
                await future
            finally:
                if answer.outcome is OPEN:  # cancelled: the callee goes on, its answer will be a late one
                    self.forget(answer.session)
        return answer.result()

    async def call_named(self, name: str, ptype: str | int, args: tuple[object, ...], timeout: float | None) -> Any:
        """`call` to the service that has the name now."""
        return await self.call(await self.node.find(name, 0), ptype, args, timeout)

    def post(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        """Send a request on its way to a mailbox."""
        pending = self.expect(message, dest, protocol)
        self.node.post(dest, message)
        return pending

    def expect(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        """Have the answer to `message` delivered to a `Pending`, or an Expired at its deadline."""
        pending = Pending(dest, protocol, message.session)
        pending.timer = self.node.clock.call_at(message.deadline, self._expire, message.session)
        if self.pending is None:
            self.pending = {}
        self.pending[message.session] = pending
        return pending

    def _claimed(self, message: Message, dest: Address, protocol: Protocol) -> Pending:
        """After a first step without an answer: what to wait for, which `take` may have made already."""
        if message.claim is True:
            message.claim = self.expect(message, dest, protocol)
        return message.claim  # type: ignore[return-value]  # True or a Pending, see `take`

    def _follow(self, pending: Pending, protocol: Protocol) -> Any:
        """After a first step that forwarded the request: step the next service too, if it could start at once.

        Returns the answer or `pending`, and raises CallError, as `ask` does.
        """
        executor = self.executor
        while pending.forwarded is not None and pending.outcome is OPEN:
            (dest, message), pending.forwarded = pending.forwarded, None
            target = self.node.cells.get(dest)
            if (
                target is None
                or executor.inline_left <= 0
                or executor.depth >= INLINE_DEPTH_MAX
                or not target.take_back(message)
            ):
                break
            outcome: object
            try:
                answer = executor.step(target, message, protocol)
            except CallError as error:
                if not self._behind():
                    self.forget(pending.session)
                    raise
                outcome = error
            else:
                if answer is OPEN:
                    continue
                if not self._behind():
                    self.forget(pending.session)
                    return answer
                outcome = (answer,)
            self.answer(pending.session, outcome)
        return pending

    def _behind(self) -> bool:
        """Whether an answer must queue behind messages that wait: one may be its sender's own, sent before it."""
        return bool(self.mailbox) and self.started and self.running < self.concurrency

    def _queue_answer(self, message: Message, dest: Address, protocol: Protocol, outcome: object) -> Pending:
        pending = self.expect(message, dest, protocol)
        self.answer(message.session, outcome)
        return pending

    def forget(self, session: int) -> None:
        """Stop expecting an answer."""
        if self.pending is not None:
            pending = self.pending.pop(session, None)
            if pending is not None and pending.timer is not None:
                pending.timer.cancel()

    def _expire(self, session: int) -> None:
        assert self.pending is not None
        pending = self.pending.pop(session, None)
        if pending is not None:
            callee = self.node.cells.get(pending.destination)
            title = pending.destination if callee is None else callee.service.title
            pending.settle(Expired(f"{title} did not answer in time"))

    # -- answers coming in -----------------------------------------------------------------------------------

    def answer(self, session: int, outcome: object) -> None:
        """Take in the answer (payload or CallError) to a session of this service.

        It queues behind the messages that are in the mailbox already, so that it stays in its sender's order;
        unless the mailbox is being held back, for then the handler that holds it may be waiting for just this.
        """
        if self.mailbox and self._behind():
            self.mailbox.append(Message(ANSWER, self.address, session, (outcome,)))
            self.answers_queued += 1
        else:
            self._settle(session, outcome)

    def _settle(self, session: int, outcome: object) -> None:
        pending = None if self.pending is None else self.pending.pop(session, None)
        if pending is None:
            self.node.counters["late_answers"] += 1
        else:
            pending.settle(outcome)

    # -- messages coming in ----------------------------------------------------------------------------------

    def enqueue(self, message: Message) -> None:
        """Put a message into the mailbox, or refuse it when the service ends or the mailbox is full."""
        node = self.node
        if self.ending:
            node.refuse(message, self.address, NotExecuted("the service has ended", code="skyloom.service_ended"))
            return
        mailbox = self.mailbox
        if mailbox is None:
            mailbox = self.mailbox = deque()
        message.weight = weight = weigh(message.payload)
        high = len(mailbox) - self.answers_queued >= self.watermark or self.mailbox_bytes + weight > self.bytes_max
        if (
            high
            and self._full(len(mailbox) - self.answers_queued, weight)
            and (
                message.ptype != _ERROR or message.session  # the word of a service's end is not lost
            )
        ):
            who = type(self.service).__name__
            text = f"the mailbox of {who} is full: {len(mailbox)} messages, {self.mailbox_bytes} bytes"
            node.refuse(message, self.address, NotExecuted(text, code="skyloom.overloaded", kind="resource_exhausted"))
            return
        mailbox.append(message)
        self.mailbox_bytes += weight
        self.inline = False
        if not self.queued and self.started and self.running < self.concurrency:
            self.queued = True
            node.run_queue.add(self)

    def take_back(self, message: Message) -> bool:
        """Take the newest message out of the mailbox again, to start it at once; False if it has to wait there."""
        mailbox = self.mailbox
        if not mailbox or len(mailbox) > 1 or mailbox[0] is not message:
            return False
        if self.serial or self.ending or not self.started or self.running >= self.concurrency:
            return False
        mailbox.clear()
        self.mailbox_bytes -= message.weight
        self.wake()
        return True

    def _full(self, waiting: int, weight: int) -> bool:
        """Whether there is no room for a message of that weight. Logs each doubling of what waits, once ever."""
        if waiting >= self.watermark > self.pressure:
            self.pressure = self.watermark
            self.watermark = min(2 * self.watermark, self.messages_max)
            self.node.counters["mailbox_pressure"] += 1
            log.warning("a mailbox fills up", service=self.service.title, waiting=waiting, limit=self.messages_max)
        return waiting >= self.messages_max or self.mailbox_bytes + weight > self.bytes_max

    def wake(self) -> None:
        """Let handlers start (again), after the service started or a half-run handler ended."""
        if self.ending or not self.started or self.running >= self.concurrency:
            return
        if not self.mailbox:
            self.inline = not self.serial
        elif not self.queued:
            self.queued = True
            self.node.run_queue.add(self)

    def held(self) -> None:
        """No further handler may start for now; answers that wait in the mailbox must not wait with the rest."""
        self.inline = False
        if self.answers_queued and self.mailbox:
            answers = [m for m in self.mailbox if m.ptype == ANSWER]
            self.mailbox = deque(m for m in self.mailbox if m.ptype != ANSWER)
            self.answers_queued = 0
            for message in answers:
                self._settle(message.session, message.payload[0])

    def run(self, worker: Worker, share: int) -> int:
        """Handle up to `share` messages of the mailbox with `worker`; returns how many. In the worker's context.

        Stops early when the mailbox is empty or held, and when a handler was suspended or left the worker unclean,
        for then the worker is not free any more.
        """
        node = self.node
        mailbox = self.mailbox
        done = 0
        while mailbox and done < share and self.running < self.concurrency:
            message = mailbox.popleft()
            done += 1
            if message.ptype == ANSWER:
                self.answers_queued -= 1
                self._settle(message.session, message.payload[0])
                mailbox = self.mailbox
                continue
            self.mailbox_bytes -= message.weight
            if message.deadline != NEVER and message.deadline < node.now():
                node.refuse(message, self.address, Expired("the deadline passed in the mailbox"))
                continue
            worker.cell = self
            awaited = worker.send(message)
            if node.executor.step_ended(worker, self, message, awaited):
                break
            mailbox = self.mailbox
        self.handled += done
        return done

    def begin(self, message: Message) -> Coroutine[Any, Any, object]:
        """The coroutine that handles a message. Raises NotBegun when there is none to start."""
        return begin(self, message)

    def add_handler(self, ptype: int, handler: Callable[..., Coroutine[Any, Any, object]], *, unpack: bool) -> None:
        """Have a handler of the user's handle a message type; see `Service.dispatch`."""
        self.handlers = {**(self.handlers or {}), ptype: handler}
        self.unopened = self.unopened - {ptype} if unpack else self.unopened | {ptype}
        quick = {**(self.quick or {}), ptype: handler}
        if not unpack or self.protocols[ptype].pack is not None:
            del quick[ptype]
        self.quick = quick
        self.quick_rpc = _LUA not in self.handlers

    # -- answers going out -----------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Pass on the duty to answer a message that this service is handling."""
        message.taken = True
        if getattr(message, "claim", None) is True:
            # The caller is still inside its `call`, stepping us: it must expect the answer by message from now on.
            source = self.node.cells.get(message.source)
            if source is not None:
                expected = (source.pending or {}).get(message.session)  # by a service that forwarded it to this one
                message.claim = expected or source.expect(message, self.address, source.protocol(message.ptype))
        self.release(message)

    def hold(self, message: Message, worker: Worker | None) -> None:
        """Remember a request that is under way, to fail it should the service end first."""
        if self.open is None:
            self.open = {}
        self.open[message] = worker

    def release(self, message: Message) -> None:
        if self.open is not None:
            self.open.pop(message, None)
