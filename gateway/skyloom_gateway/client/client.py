"""A client of a Skyloom gateway.

    async with connect("ws://127.0.0.1:8000/ws", auth={"scheme": "guest", "name": "ada"}) as client:
        messages = client.pushes("chat.message", body=ChatMessage)  # before the join: none is missed
        joined = await client.request("chat.join", {"room": "lobby"}, returns=Joined)
        await client.notify("chat.typing", {"room": "lobby"})
        async for push in messages:
            print(push.body.user, push.body.text)

One task of the client reads frames, and hands each to a waiting `request` or to the streams of pushes;
another pings a silent connection. `skyloom_gateway.client.errors` draws what may be raised. A client
belongs to one event loop and one connection: when `closed` is set, make a new one.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar, overload

from pydantic import BaseModel, TypeAdapter

from skyloom_gateway.client.answer import as_type, typed_as
from skyloom_gateway.client.conversation import Answer, Complaint, Conversation, Limits, Quiet, Say
from skyloom_gateway.client.errors import (
    ConnectionLost,
    ProtocolViolation,
    RequestFailed,
    RequestTimeout,
)
from skyloom_gateway.client.pushes import PUSH_BUFFER_MAX, Audience, Push, PushStream
from skyloom_gateway.client.transport import Transport, TransportClosed
from skyloom_gateway.wire import frame as wire
from skyloom_gateway.wire.codes import WireError

CONNECT_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 5.0
CLIENT_NAME = "skyloom-python"

Body = Mapping[str, object] | BaseModel
Encoding = Literal["json", "msgpack"]
T = TypeVar("T")

_log = logging.getLogger("skyloom.client")


class Client:
    """One open session with a gateway; `connect` makes it.

    Every request, notify and stream may be used from any task of the event loop at the same time.
    """

    def __init__(self, transport: Transport, conversation: Conversation, timeout: float) -> None:
        self._transport = transport
        self._conversation = conversation
        self._timeout = timeout
        self._answers: dict[int, tuple[str, asyncio.Future[object]]] = {}
        self._audience = Audience()
        self._on_drain: list[Callable[[wire.Drain], Awaitable[None] | None]] = []
        self._on_error: list[Callable[[Exception], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._lost: ConnectionLost | None = None
        self._closing = False
        self.drain: wire.Drain | None = None
        """The gateway's notice that it will close, once it has come: `reason`, and `reconnect_in` in
        seconds.
        """
        self.late_answers = 0
        """Answers that came after their request had timed out or been cancelled."""
        self.unheard_pushes = 0
        """Pushes of routes that nobody listened to."""

    @classmethod
    def start(cls, transport: Transport, conversation: Conversation, timeout: float) -> "Client":
        """A running client on a transport whose conversation is past its welcome; for `connect` and for
        tests.
        """
        client = cls(transport, conversation, timeout)
        client._run(client._read())
        client._run(client._keep_alive())
        return client

    @property
    def user(self) -> str:
        """Who the gateway takes this client for."""
        return self._welcome.user

    @property
    def session(self) -> str:
        """The session's id, as in the gateway's log."""
        return self._welcome.session

    @property
    def limits(self) -> Limits:
        """What the gateway allows this client: bytes in a frame, messages a second."""
        return self._conversation.limits

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by `close` or by loss."""
        return self._ended.is_set()

    @property
    def lost(self) -> ConnectionLost | None:
        """Why the connection ended, None while it is open or when `close` ended it."""
        return None if self._closing else self._lost

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        await self._ended.wait()

    @overload
    async def request(
        self,
        route: str,
        body: Body | None = None,
        *,
        timeout: float | None = None,
        returns: type[T] | TypeAdapter[T],
    ) -> T: ...

    @overload
    async def request(self, route: str, body: Body | None = None, *, timeout: float | None = None) -> Any: ...

    async def request(
        self,
        route: str,
        body: Body | None = None,
        *,
        timeout: float | None = None,
        returns: type[T] | TypeAdapter[T] | None = None,
    ) -> Any:
        """Send a request and wait for its answer.

        `body` is a dict or a pydantic model, None for `{}`; `timeout` is in seconds (None: the client's),
        and covers the sending too. `returns`, a pydantic model class, another type or a TypeAdapter, gives
        the type of the answer; without it the answer comes as plain data.

        Raises RequestFailed, RequestTimeout, ConnectionLost, AnswerInvalid, MessageTooLarge; pydantic's or
        the codec's error for a body that cannot be encoded. Cancelling the caller gives up waiting, not the
        request.
        """
        seconds = self._timeout if timeout is None else timeout
        self._check_open()
        request_id, frame = self._conversation.request(route, {} if body is None else body)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = (route, answer)
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await self._send(frame)
                result = await answer
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RequestTimeout(route, seconds) from error
        finally:
            self._answers.pop(request_id, None)
            self._conversation.forget(request_id)
            if answer.done() and not answer.cancelled():
                answer.exception()  # a failure that came while the sending failed too is not reported twice
        return result if returns is None else as_type(route, returns, result)

    async def notify(self, route: str, body: Body | None = None) -> None:
        """Send a message that has no answer.

        Returning means it was handed to the transport; it may be lost, and an error about it comes to
        `on_error`. Raises ConnectionLost, MessageTooLarge, RequestTimeout when the gateway takes nothing
        for the client's timeout.
        """
        self._check_open()
        frame = self._conversation.notify(route, {} if body is None else body)
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                await self._send(frame)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RequestTimeout(route, self._timeout) from error

    @overload
    def pushes(
        self, route: str | None = None, *, body: type[T] | TypeAdapter[T], buffer_max: int = PUSH_BUFFER_MAX
    ) -> PushStream[T]: ...

    @overload
    def pushes(self, route: str | None = None, *, buffer_max: int = PUSH_BUFFER_MAX) -> PushStream[Any]: ...

    def pushes(
        self,
        route: str | None = None,
        *,
        body: type[T] | TypeAdapter[T] | None = None,
        buffer_max: int = PUSH_BUFFER_MAX,
    ) -> PushStream[Any]:
        """The pushes of `route` (None: all) from now on, as an async iterator of `Push`.

        `body` types `push.body` as `returns` types an answer. Each stream gets every push. At most
        `buffer_max` wait for the consumer; PushStream says how it ends and how it tells of lost pushes.
        Iterating may raise ConnectionLost, PushOverflow, AnswerInvalid.
        """
        return self._audience.admit(route, typed_as(body), buffer_max)

    @overload
    def on(
        self, route: str, fn: Callable[[Push[T]], Awaitable[None] | None], *, body: type[T] | TypeAdapter[T]
    ) -> Callable[[], None]: ...

    @overload
    def on(self, route: str, fn: Callable[[Push[Any]], Awaitable[None] | None]) -> Callable[[], None]: ...

    def on(
        self,
        route: str,
        fn: Callable[[Push[Any]], Awaitable[None] | None],
        *,
        body: type[Any] | TypeAdapter[Any] | None = None,
    ) -> Callable[[], None]:
        """Call `fn`, plain or async, with each push of `route`, one at a time and in order; returns what
        ends it.

        What `fn` raises, PushOverflow when it is too slow, and bodies that do not fit go to `on_error`, and
        the pushes go on.
        """
        stream = self.pushes(route) if body is None else self.pushes(route, body=body)
        task = self._spawn(self._deliver(stream, fn))

        def cancel() -> None:
            stream.close()
            task.cancel()

        return cancel

    def on_drain(self, fn: Callable[[wire.Drain], Awaitable[None] | None]) -> None:
        """Call `fn`, plain or async, when the gateway says that it is about to close; at once if it already
        has.
        """
        self._on_drain.append(fn)
        if self.drain is not None:
            self._run(self._call_drain(fn, self.drain))

    def on_error(self, fn: Callable[[Exception], None]) -> None:
        """Call `fn` with what no caller waits for: errors with id 0, failures of callbacks. Without one
        they are logged.
        """
        self._on_error.append(fn)

    async def close(self) -> None:
        """Close the connection, politely for at most 2 s. Waiting requests raise ConnectionLost, streams
        end.
        """
        if not self.closed:
            self._closing = True
            self._finish(ConnectionLost(1000, "closed by this client"))
        await self._transport.close()
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _welcome(self) -> wire.Welcome:
        welcome = self._conversation.welcome
        if welcome is None:
            raise RuntimeError("the gateway has not welcomed this client; use connect()")
        return welcome

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._handle(self._conversation.receive(await self._transport.receive(), loop.time()))
        except TransportClosed as closed:
            self._finish(self._conversation.lost(closed.code, closed.reason))
        except ProtocolViolation as violation:
            self._report(violation)
            self._finish(ConnectionLost(None, str(violation)))
        # The writing half must go too, also when the peer never closes its own.
        self._transport.abort()

    async def _handle(self, event: object) -> None:
        match event:
            case Answer(id=request_id, body=body, error=None):
                _, answer = self._answers[request_id]
                if not answer.done():
                    answer.set_result(body)
            case Answer(id=request_id, error=WireError() as error):
                route, answer = self._answers[request_id]
                if not answer.done():
                    answer.set_exception(RequestFailed(error, route))
            case wire.Push(seq=seq, route=route, body=body):
                self.unheard_pushes += not self._audience.offer(seq, route, body)
            case Say(frame=frame):
                await self._transport.send(frame)
            case Quiet(late=late):
                self.late_answers += late
            case Complaint(error=error):
                self._report(RequestFailed(error))
            case wire.Drain() as drain:
                self.drain = drain
                for fn in self._on_drain:
                    self._run(self._call_drain(fn, drain))
            case _:
                raise ProtocolViolation(f"unexpected {type(event).__name__}")

    async def _keep_alive(self) -> None:
        """Ping when it is silent; give the connection up when it stays so."""
        loop = asyncio.get_running_loop()
        while True:
            tick = self._conversation.tick(loop.time())
            if tick.dead:
                silent = 2 * self._conversation.heartbeat_seconds
                self._finish(ConnectionLost(None, f"the gateway sent nothing for {silent:g} s, not even a pong"))
                self._transport.abort()
                return
            try:
                async with asyncio.timeout(tick.wait_seconds):
                    if tick.frame is not None:
                        await self._transport.send(tick.frame)
                    await self._ended.wait()
                    return
            except TimeoutError:
                continue
            except TransportClosed:
                return  # the reader learns the same, and says so

    async def _send(self, frame: bytes) -> None:
        try:
            await self._transport.send(frame)
        except TransportClosed as closed:
            # The reader may still hold frames that came before the end, so ending is left to it.
            raise self._conversation.lost(closed.code, closed.reason) from closed

    def _check_open(self) -> None:
        if self._lost is not None:
            raise ConnectionLost(self._lost.code, self._lost.reason, error=self._lost.error, sent=False)

    def _finish(self, lost: ConnectionLost) -> None:
        """The connection is over: tell everybody who waits."""
        if self._lost is not None:
            return
        self._lost = lost
        self._ended.set()
        for _, answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionLost(lost.code, lost.reason, error=lost.error))
        # Each consumer gets an exception of its own: tracebacks grow on a shared one.
        self._audience.finish(
            None if self._closing else lambda: ConnectionLost(lost.code, lost.reason, error=lost.error)
        )

    async def _deliver(self, stream: PushStream[Any], fn: Callable[[Push[Any]], Awaitable[None] | None]) -> None:
        while True:
            try:
                result = fn(await anext(stream))
                if inspect.isawaitable(result):
                    await result
            except (StopAsyncIteration, ConnectionLost):
                return  # the end of the stream is `closed` and `lost`, which others watch
            except Exception as error:  # noqa: BLE001 - reported, not swallowed
                self._report(error)

    async def _call_drain(self, fn: Callable[[wire.Drain], Awaitable[None] | None], drain: wire.Drain) -> None:
        try:
            result = fn(drain)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 - reported, not swallowed
            self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._on_error:
            _log.warning("nobody handles this error of the client: %s", error)
        for fn in self._on_error:
            fn(error)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that only the end of the client stops."""
        self._tasks.add(self._spawn(work))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
