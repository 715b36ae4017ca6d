"""One connection to NATS, from joining the cluster to leaving it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgpack
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoServersError, SlowConsumerError

from skyloom.cluster.members import SILENT_TICKS_MAX, Members
from skyloom.cluster.transport import NotConnected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

CONNECT_SECONDS: Final = 2.0
"""How long the server may take for a connection, and for an answer to a request."""

JOIN_SECONDS: Final = 1.0
"""How long a node that joins waits for word of all others; those that were killed lately will not answer."""

TICK_SECONDS: Final = 1.0
"""Between two words of a node."""

STALLED_SECONDS: Final = (SILENT_TICKS_MAX - 1) * TICK_SECONDS
"""A node whose own tick is later than this may have been lost by others, so that it joins anew."""

LOOK_SECONDS: Final = 1.0
"""How long other nodes may take to say what names they have."""

FRAME_BYTES: Final = 256 * 1024
"""Messages to one node are sent together up to about this size."""

FRAME_OVERHEAD_BYTES: Final = 256
"""What a frame needs beside its messages."""

WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes that wait to be sent; more is refused."""

UNREAD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes received that wait for the event loop; past it the connection is given up."""

CLOSE_SECONDS: Final = 1.0
"""How long closing may take until the socket is cut."""

CANCEL_SECONDS: Final = 0.05
"""Between two tries to cancel a task."""

ALIVE: Final = 1
LEFT: Final = 2
ASKS: Final = 3
LOST: Final = 4
"""Words about a node, by itself; the last one by another, to a node that does not know that it was lost."""


log = structlog.get_logger("skyloom.cluster")


class _Client(Client):
    """`nats-py` takes a server that is to be asked by ``tls://`` without TLS, too, and tells it the password."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise NatsError("the server does not demand TLS, and the URL is a tls:// one")
        await super()._process_info(info, initial_connection)


class Life:
    """See the module's docstring. `names` are those of this node's services, with their handles, kept by others.

    ``receive(peer, data)`` and ``lost(peer)`` are as in `Transport`; nothing is received once `end` was called.
    """

    def __init__(
        self,
        servers: Sequence[str],
        cluster: str,
        node: str,
        receive: Callable[[str, bytes], None],
        lost: Callable[[str], None],
        names: Mapping[str, int],
    ) -> None:
        self._servers = servers
        self._prefix = f"skyloom.{cluster}"
        self._node = node
        self._receive = receive
        self._names = names
        self.members = Members(lost)
        self._nats = _Client()
        self._incarnation = 0
        self._silent = 0  # ticks since this node heard itself
        self._waiting: dict[str, list[bytes]] = {}
        self._waiting_bytes = 0
        self._to_send = asyncio.Event()
        self._news = asyncio.Event()
        self._to_say = asyncio.Event()
        self._heard = False
        self._to_look = asyncio.Event()
        self._lookers: list[asyncio.Future[None]] = []
        self._asked = 0
        self._questions: dict[str, tuple[set[str], asyncio.Event]] = {}
        self._ended = False
        self._trouble: Exception | None = None
        self._subscriptions: list[Subscription] = []
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pack = msgpack.Packer().pack

    @property
    def jetstream(self) -> JetStreamContext:
        return self._nats.jetstream(timeout=CONNECT_SECONDS)

    # -- joining and leaving ---------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to the server. Raises NatsError, OSError, TimeoutError."""
        try:
            await self._connect()
        except NoServersError as error:
            raise self._trouble or error from None
        self._bytes_max = self._nats.max_payload - FRAME_OVERHEAD_BYTES

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_SECONDS * len(self._servers)):
            await self._nats.connect(
                list(self._servers),
                name=f"skyloom {self._node}",
                allow_reconnect=False,  # a new connection is a new incarnation
                max_reconnect_attempts=1,  # each server twice, without a pause
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_SECONDS),
                error_cb=self._error,
                closed_cb=self._closed,
                flush_timeout=CONNECT_SECONDS,
                skip_subject_validation=True,
            )

    async def join(self, incarnation: int, others: Iterable[str]) -> None:
        """Become a member; afterwards those of the `others` are known that are there."""
        self._incarnation = incarnation
        for subject, callback in (
            (self._subject(self._node, incarnation), self._frame),
            (f"{self._prefix}.members", self._word),
        ):
            subscription = await self._nats.subscribe(
                subject, cb=callback, pending_msgs_limit=0, pending_bytes_limit=UNREAD_BYTES_MAX
            )
            self._subscriptions.append(subscription)
        await self._nats.flush(int(CONNECT_SECONDS))
        await self._say(ALIVE)
        missing = {*others, self._node}
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                while missing:
                    self._news.clear()
                    missing -= {*self.members, *([self._node] if self._heard else [])}
                    if missing:
                        await self._news.wait()
        if not self._heard:
            raise NatsError("this node does not hear itself")

    async def hears(self, node: str) -> bool:
        """Whether a node of this name says that it is there, within two of its ticks."""
        heard = asyncio.Event()

        async def listen(message: Msg) -> None:
            with suppress(ValueError, TypeError):
                word, name, *_ = msgpack.unpackb(message.data)
                if (word, name) == (ALIVE, node):
                    heard.set()

        self._subscriptions.append(await self._nats.subscribe(f"{self._prefix}.members", cb=listen))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * TICK_SECONDS):
                await heard.wait()
        return heard.is_set()

    async def run(self, renew: Callable[[], Coroutine[Any, Any, None]]) -> str:
        """Send, listen and `renew` until it breaks; returns why."""
        loop = asyncio.get_running_loop()
        working: list[Coroutine[Any, Any, None]] = [
            self._send_what_waits(),
            self._tick(),
            self._look_for_all(),
            renew(),
        ]
        tasks = [loop.create_task(each, name="skyloom cluster") for each in working]  # awaited below
        try:
            waited: list[asyncio.Future[Any]] = [self._broken, *tasks]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.break_off(f"{type(error).__name__} {error}".rstrip())
        return await self._broken

    def end(self) -> None:
        """From here on nothing is received or sent, and all others are lost."""
        self._ended = True
        for node in list(self.members):
            self.members.lose(node)

    async def goodbye(self) -> None:
        """Send what waits, and let the others know at once. From here on nothing is received."""
        self._ended = True
        for frame in self._frames():
            await self._nats.publish(*frame)
        await self._say(LEFT)
        await self._nats.flush(int(CONNECT_SECONDS))

    async def close(self) -> None:
        """Disconnect, also from a server that hangs. Who looks for a name is told that there is no more to hear."""
        self._ended = True
        _set(self._lookers)
        closing = asyncio.get_running_loop().create_task(self._nats.close(), name="skyloom cluster")
        try:
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)  # no `timeout()`: nats-py swallows cancellations
            self._cut()
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        finally:
            self._cut()
            self._drop(closing)

    def _drop(self, closing: asyncio.Task[None]) -> None:
        """End what nats-py leaves behind when it cannot close."""
        left: list[object] = [closing]
        left += [getattr(self._nats, name, None) for name in ("_reading_task", "_flusher_task", "_ping_interval_task")]
        left += [getattr(each, "_wait_for_msgs_task", None) for each in self._subscriptions]
        for task in left:
            if isinstance(task, asyncio.Task) and not task.done():
                task.cancel()
            elif isinstance(task, asyncio.Task) and not task.cancelled():
                task.exception()  # looked at, so that asyncio does not complain of it: why it broke is known

    def _cut(self) -> None:
        """Abort the socket, if there still is one: nats-py itself would wait until the server reads."""
        writer = getattr(getattr(self._nats, "_transport", None), "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def break_off(self, reason: str) -> None:
        """Have `run` end."""
        if not self._broken.done():
            self._broken.set_result(reason)

    async def _closed(self) -> None:
        self.break_off("the connection to NATS was lost")

    async def _error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):  # something was dropped
            self.break_off(f"more than {UNREAD_BYTES_MAX} bytes had come before they could be read")
        else:
            self._trouble = error
            log.debug("nats-py met an error", error=str(error))

    # -- going out -------------------------------------------------------------------------------------------

    def send(self, node: str, data: bytes) -> None:
        """Send a message to a member. Raises NotConnected, and ValueError for one that is too long."""
        incarnation = self.members.incarnation(node)
        if incarnation == 0 or self._ended:
            raise NotConnected(f"node {node!r} is not connected")
        size = len(data)
        if size > self._bytes_max:
            raise ValueError(f"a message of {size} bytes; the NATS server takes {self._bytes_max} (max_payload)")
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise NotConnected(f"{self._waiting_bytes} bytes wait to be sent to other nodes already")
        self._waiting_bytes += size
        subject = self._subject(node, incarnation)
        waiting = self._waiting.get(subject)
        if waiting is None:
            waiting = self._waiting[subject] = []
            self._to_send.set()
        waiting.append(data)

    async def _send_what_waits(self) -> None:
        publish = self._nats.publish
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            for subject, frame in self._frames():
                await publish(subject, frame)

    def _frames(self) -> Iterator[tuple[str, bytes]]:
        """What waits, packed; in the order of each node's messages."""
        waiting, self._waiting = self._waiting, {}
        self._waiting_bytes = 0
        for subject, messages in waiting.items():
            frame: list[Any] = [self._node, self._incarnation]
            size = 0
            for data in messages:
                if size and size + len(data) > FRAME_BYTES:
                    yield subject, self._pack(frame)
                    frame, size = [self._node, self._incarnation], 0
                frame.append(data)
                size += len(data)
            yield subject, self._pack(frame)

    async def _say(self, word: int, question: str = "") -> None:
        frame = self._pack([word, self._node, self._incarnation, self._names, question])
        if len(frame) > self._nats.max_payload:
            raise NatsError(f"{len(self._names)} names of services are more than fit one NATS message")
        await self._nats.publish(f"{self._prefix}.members", frame)

    def names_changed(self) -> None:
        """Let the others know soon."""
        self._to_say.set()

    async def _tick(self) -> None:
        clock = asyncio.get_running_loop().time
        last = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(last + TICK_SECONDS):
                    await self._to_say.wait()
                    self._to_say.clear()
                    await self._say(ALIVE)
                    continue
            now = clock()
            if now - last > STALLED_SECONDS:
                self.break_off(f"this node stood still for {now - last:.1f} s")
                return
            last = now
            self._silent += 1
            if self._silent > SILENT_TICKS_MAX:
                self.break_off(f"nothing came from NATS for {SILENT_TICKS_MAX} s")
                return
            for node in self.members.tick():
                log.warning("a node was lost", node=node, seconds=SILENT_TICKS_MAX * TICK_SECONDS)
            await self._say(ALIVE)

    async def look(self) -> None:
        """Wait until all other nodes have said what names they have now. Many who wait are one question."""
        looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lookers.append(looked)
        self._to_look.set()
        await looked

    async def _look_for_all(self) -> None:
        while True:
            await self._to_look.wait()
            self._to_look.clear()
            lookers, self._lookers = self._lookers, []
            try:
                await self._ask_all()
            finally:
                _set(lookers)

    async def _ask_all(self) -> None:
        self._asked += 1
        question = f"{self._node} {self._asked}"
        unheard, heard = self._questions[question] = set(self.members), asyncio.Event()
        try:
            await self._say(ASKS, question)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    while unheard & set(self.members):
                        heard.clear()
                        await heard.wait()
        finally:
            del self._questions[question]

    # -- coming in -------------------------------------------------------------------------------------------

    async def _frame(self, message: Msg) -> None:
        """Messages from another node."""
        if self._ended:
            return
        try:
            node, incarnation, *messages = msgpack.unpackb(message.data)
            admitted = self.members.admit(node, incarnation)
        except (ValueError, TypeError) as error:
            log.error("what came over NATS is no frame", subject=message.subject, reason=str(error))
            return
        if not admitted:
            return
        receive = self._receive
        for data in messages:
            receive(node, data)

    async def _word(self, message: Msg) -> None:
        """A node says that it is there, or that it leaves."""
        if self._ended:
            return
        try:
            word, node, incarnation, names, question = msgpack.unpackb(message.data)
            if node == self._node:
                self._own_word(word, incarnation)
            elif word == LEFT:
                self.members.left(node, incarnation)
            elif word in (ALIVE, ASKS):
                await self._other_word(word, node, incarnation, names, question)
        except (ValueError, TypeError) as error:
            log.error("what came over NATS is no word of a node", reason=str(error))

    async def _other_word(self, word: int, node: str, incarnation: int, names: dict[str, int], question: str) -> None:
        is_new = node not in self.members
        if not self.members.admit(node, incarnation):  # it was lost, and does not know
            lost = self._pack([LOST, node, incarnation, {}, ""])
            await self._nats.publish(f"{self._prefix}.members", lost)
            return
        self.members.named(node, names)
        if is_new:
            self._news.set()
        if word == ASKS or is_new:  # one that is new shall know this one at once
            await self._say(ALIVE, question)
        elif question in self._questions:
            unheard, heard = self._questions[question]
            unheard.discard(node)
            heard.set()

    def _own_word(self, word: int, incarnation: int) -> None:
        if incarnation != self._incarnation:
            return  # an earlier life's
        if word == LOST:
            self.break_off("another node had lost this one")
            return
        self._silent = 0
        if not self._heard:
            self._heard = True
            self._news.set()

    def _subject(self, node: str, incarnation: int) -> str:
        return f"{self._prefix}.to.{node.replace('.', '/')}.{incarnation}"


async def end_tasks(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks that use nats-py until they have ended: on Python 3.11 it may swallow a cancellation, or several."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_SECONDS)


def _set(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
