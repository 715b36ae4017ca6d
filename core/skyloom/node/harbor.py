"""The node's door to other nodes: skynet's harbor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from skyloom.cluster.transport import MESSAGE_BYTES_MAX, NotConnected
from skyloom.message import value
from skyloom.message.address import Address
from skyloom.message.errors import CallError, NotExecuted, Unknown, ValueRefused, error_from_values, error_to_values
from skyloom.message.message import NEVER, Message
from skyloom.message.ptype import Ptype
from skyloom.message.wire import pack_message, unpack_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyloom.cluster.transport import Transport
    from skyloom.node.node import Node

log = structlog.get_logger("skyloom.harbor")


class Harbor:
    """Sends what is for other nodes, takes in what comes from them, and tells the callers of a lost one.

    Nodes speak to each other's harbor (handle 0, HARBOR messages) of four things: monitor, unmonitor, kill, forwarded.
    """

    def __init__(self, node: Node, transport: Transport | None) -> None:
        self._node = node
        self._transport = transport

    @property
    def connected(self) -> bool:
        """Whether this node has a way to others at all."""
        return self._transport is not None

    async def start(self) -> None:
        if self._transport is not None:
            await self._transport.start(self._node.name, self._receive, self._lost)
            for name, address in self._node.names:
                self._transport.announce(name, address)

    async def stop(self) -> None:
        if self._transport is not None:
            await self._transport.stop()

    def nodes(self) -> tuple[str, ...]:
        """The other nodes that are connected."""
        return () if self._transport is None else tuple(self._transport.nodes())

    # -- names -----------------------------------------------------------------------------------------------

    def announce(self, name: str, address: Address) -> None:
        if self._transport is not None:
            self._transport.announce(name, address)

    def withdraw(self, names: Iterable[str], address: Address) -> None:
        if self._transport is not None:
            for name in names:
                self._transport.withdraw(name, address)

    async def resolve(self, name: str) -> Address | None:
        return None if self._transport is None else await self._transport.resolve(name)

    # -- leases ----------------------------------------------------------------------------------------------

    async def hold(self, key: str) -> int:
        """`Transport.hold`; a node without one has every lease, with the token 1."""
        return 1 if self._transport is None else await self._transport.hold(key)

    async def release(self, key: str) -> None:
        """`Transport.release`."""
        if self._transport is not None:
            await self._transport.release(key)

    # -- going out -------------------------------------------------------------------------------------------

    def post(self, dest: Address, message: Message) -> None:
        """Send a message to a service of another node, or refuse it."""
        try:
            self._send(dest, message)
        except (NotConnected, ValueError, ValueRefused) as error:
            self._node.refuse(message, dest, NotExecuted(str(error), code="skyloom.not_connected"))

    def answer(self, request: Message, outcome: bytes | tuple[object, ...] | CallError) -> None:
        """Send the answer to a request that came from another node."""
        if isinstance(outcome, CallError):
            outcome = value.pack(error_to_values(outcome))
            ptype = Ptype.ERROR
        else:
            ptype = Ptype.RESPONSE
        source = Address(self._node.name, 0)
        try:
            self._send(request.source, Message(int(ptype), source, request.session, outcome))
        except NotConnected:
            self._node.counters["late_answers"] += 1
        except (ValueError, ValueRefused) as error:
            self.answer(request, Unknown(f"the answer was not sent: {error}", code="skyloom.answer_not_sent"))

    def _send(self, dest: Address, message: Message) -> None:
        if self._transport is None:
            raise NotConnected(f"node {dest.node!r} is not connected: this node has no transport")
        data = pack_message(dest.handle, message, self._node.now())
        if len(data) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX} go between nodes")
        self._transport.send(dest.node, data)

    def _tell(self, node: str, source: Address, *words: object) -> bool:
        try:
            self._send(Address(node, 0), Message(int(Ptype.HARBOR), source, 0, words, NEVER))
        except NotConnected:
            return False
        return True

    def kill(self, address: Address) -> bool:
        """Ask another node to kill a service of its own."""
        return self._tell(address.node, address, "kill", address.handle)

    def monitor(self, watcher: Address, target: Address) -> bool:
        """Ask another node to tell `watcher` of the end of `target`. False when that node is not connected."""
        return self._tell(target.node, watcher, "monitor", target.handle)

    def unmonitor(self, watcher: Address, target: Address) -> None:
        self._tell(target.node, watcher, "unmonitor", target.handle)

    def passed_on(self, request: Message, dest: Address) -> None:
        """Tell the node of the caller that its request went on to yet another node."""
        caller = request.source
        self._tell(caller.node, dest, "forwarded", caller.handle, request.session)

    # -- coming in -------------------------------------------------------------------------------------------

    def _receive(self, peer: str, data: bytes) -> None:
        node = self._node
        try:
            handle, message = unpack_message(data, node.now())
            if handle == 0:
                self._listen(message)
                return
            if message.session and message.ptype in (Ptype.RESPONSE, Ptype.ERROR):
                self._take_answer(handle, message)
                return
        except ValueError as error:
            node.counters["bad_messages"] += 1
            log.error("a node sent what is no message", peer=peer, bytes=len(data), reason=str(error))
            return
        if message.ptype == Ptype.ERROR:
            self._down(Address(node.name, handle), message)
        else:
            node.post(Address(node.name, handle), message)

    def _take_answer(self, handle: int, message: Message) -> None:
        cell = self._node.cells.get(Address(self._node.name, handle))
        if cell is None:
            self._node.counters["late_answers"] += 1
            return
        assert type(message.payload) is bytes
        outcome: bytes | CallError = message.payload
        if message.ptype == Ptype.ERROR:
            try:
                outcome = error_from_values(value.unpack(message.payload))
            except ValueError as error:
                outcome = Unknown(str(error), code="skyloom.bad_answer")
        cell.answer(message.session, outcome)

    def _listen(self, message: Message) -> None:
        assert type(message.payload) is bytes
        word, handle, *rest = value.unpack(message.payload)
        if type(handle) is not int:
            raise ValueError("a word to a harbor needs a handle")
        target = Address(self._node.name, handle)
        if word == "kill":
            self._node.services.kill(target)
        elif word == "monitor":
            self._node.services.monitor(message.source, target)
        elif word == "unmonitor":
            self._node.services.unmonitor(message.source, target)
        elif word == "forwarded":
            (session,) = rest
            self._node.waits_for(target, session, message.source)
        else:
            raise ValueError(f"unknown word {word!r} to a harbor")

    def _down(self, watcher: Address, message: Message) -> None:
        """A service of another node that `watcher` monitors has ended."""
        watchers = self._node.services.monitors.get(message.source)
        if watchers is not None and watcher in watchers:
            self._node.services.unmonitor(watcher, message.source, tell=False)
            self._node.post(watcher, message)

    def _lost(self, peer: str) -> None:
        """A node is gone: fail the calls that wait for it, and report its services as ended."""
        node, services = self._node, self._node.services
        for cell in list(node.cells.values()):
            waiting = [s for s, p in (cell.pending or {}).items() if p.destination.node == peer]
            for session in waiting:
                cell.answer(session, Unknown(f"node {peer!r} was lost during the call", code="skyloom.peer_lost"))
            for message in (*(cell.open or ()), *(cell.mailbox or ())):
                if message.source.node == peer:
                    message.session = 0  # nobody waits, and the next node of that name will count from 1 again
                    cell.release(message)
        for target, watchers in list(services.monitors.items()):
            for watcher in sorted(watcher for watcher in watchers if watcher.node == peer):
                services.unmonitor(watcher, target, tell=False)
        for target in [target for target in services.monitors if target.node == peer]:
            for watcher in sorted(services.monitors.pop(target)):
                if watcher.node == node.name:
                    node.post(watcher, Message(int(Ptype.ERROR), target, 0, ("its node was lost",)))
