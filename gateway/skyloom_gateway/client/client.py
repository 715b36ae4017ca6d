"""A client of a Skyloom gateway.

    async with connect("ws://127.0.0.1:8000/ws", auth={"scheme": "guest", "name": "ada"}) as client:
        messages = client.pushes("chat.message", body=ChatMessage)  # before the join: none is missed
        joined = await client.request("chat.join", {"room": "lobby"}, returns=Joined)
        await client.notify("chat.typing", {"room": "lobby"})
        async for push in messages:
            print(push.body.user, push.body.text)

A client comes back by itself when its connection is lost::

    connecting --welcome--> connected --loss--> suspended --welcome--> connected
                                |                   | final close code, or too long
                                +----- close() -----+-----> closed

While it is suspended, requests wait within their time-outs. When it is back in its session (`recovered`) all is as if
nothing had happened: pushes come in order, each once, and requests without an answer are repeated, which the gateway
answers without running them twice. When the gateway began a new session, those requests and the streams of pushes raise
SessionLost, and `on_session` is called: set up again what the session had.

`skyloom_gateway.client.errors` draws what may be raised. A client belongs to one event loop, whose clock it lives by.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from pydantic import BaseModel, TypeAdapter

from skyloom_gateway.client.answer import as_type, typed_as
from skyloom_gateway.client.callbacks import Callback, Callbacks
from skyloom_gateway.client.conversation import Answer, Begun, Complaint, Conversation, Event, Limits, Pending, Quiet
from skyloom_gateway.client.errors import (
    ClientError,
    ConnectionLost,
    NotConnected,
    RequestFailed,
    RequestTimeout,
    SessionLost,
)
from skyloom_gateway.client.lifeline import Auth, Dial, Lifeline
from skyloom_gateway.client.pushes import PUSH_BUFFER_MAX, Audience, Push, PushStream
from skyloom_gateway.client.reconnecting import WAITING_REQUESTS_MAX, Reconnect
from skyloom_gateway.client.status import Session, Status
from skyloom_gateway.client.transport import TransportClosed
from skyloom_gateway.wire import frame as wire
from skyloom_gateway.wire.codec import Codec

CONNECT_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 5.0

Body = Mapping[str, object] | BaseModel
T = TypeVar("T")


class Client:
    """One session with a gateway, over as many connections as it takes; `connect` makes it.

    Every request, notify and stream may be used from any task of the event loop at the same time.

    Args:
        dial: opens a connection; raises ConnectFailed.
        codec: the encoding.
        auth: the hello's, or an async function that gives it anew for each connection.
        address: where it dials, for errors.
        timeout: the requests' default, in seconds.
        connect_timeout: seconds for one attempt to connect.
        reconnect: how to come back after a loss; None: not at all.
        rng: where the jitter of the delays comes from.
    """

    def __init__(
        self,
        dial: Dial,
        codec: Codec,
        auth: Auth,
        *,
        address: str = "the gateway",
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        reconnect: Reconnect | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._timeout = timeout
        self._conversation = Conversation(codec)
        self._lifeline = Lifeline(
            self,
            self._conversation,
            dial,
            auth,
            address=address,
            connect_timeout=connect_timeout,
            reconnect=reconnect,
            rng=rng or random.SystemRandom(),
        )
        self._waiting_max = reconnect.waiting_requests_max if reconnect else WAITING_REQUESTS_MAX
        self._answers: dict[Pending, asyncio.Future[object]] = {}
        self._audience = Audience()
        self._callbacks = Callbacks()
        self._on_drain: list[Callback[wire.Drain]] = []
        self._on_status: list[Callback[Status]] = []
        self._on_session: list[Callback[Session]] = []
        self._ended = asyncio.Event()
        self._lost: ConnectionLost | None = None
        self._closing = False
        self.recovered: bool | None = None
        """Whether the client's last return was to the session that it had; None before the first."""
        self.late_answers = 0
        """Answers that came after their request had timed out or been cancelled."""
        self.unheard_pushes = 0
        """Pushes of routes that nobody listened to."""

    async def open(self) -> None:
        """Connect, and wait for the welcome. `connect` does this for you. Raises ConnectFailed, HelloRefused."""
        line = await self._lifeline.connect()
        self._callbacks.spawn(self._lifeline.live(line))

    @property
    def status(self) -> Status:
        """How the connection is doing; `on_status` tells of changes."""
        return self._lifeline.status

    @property
    def drain(self) -> wire.Drain | None:
        """The gateway's notice that it will close this connection, once it has come: `reason`, and `reconnect_in` in
        seconds.
        """
        return self._lifeline.drain

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
    def contract(self) -> str | None:
        """The hash of what the gateway serves, to compare with the `CONTRACT` of a written client; None: not told."""
        return self._welcome.contract

    @property
    def closed(self) -> bool:
        """Whether the client has ended, by `close` or by loss; it does not come back."""
        return self._ended.is_set()

    @property
    def lost(self) -> ConnectionLost | None:
        """Why the client ended, None before it has or when `close` ended it."""
        return None if self._closing else self._lost

    async def wait_closed(self) -> None:
        """Wait until the client has ended."""
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

        While the client is suspended the request waits, within its timeout. Raises RequestFailed, RequestTimeout,
        SessionLost when the session ended before the answer came, ConnectionLost when the client ended, NotConnected
        when too many requests wait, AnswerInvalid, MessageTooLarge; pydantic's or the codec's error for a body that
        cannot be encoded. Cancelling the caller gives up waiting, not the request.
        """
        seconds = self._timeout if timeout is None else timeout
        self._check_open()
        line = self._lifeline.line
        if line is not None and not line.flowing.is_set():
            line = None  # it goes with those that wait
        if line is None and self._conversation.waiting >= self._waiting_max:
            raise NotConnected(f"{self._waiting_max} requests wait for the connection already")
        pending = self._conversation.request(route, {} if body is None else body)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._answers[pending] = answer
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                if line is not None:
                    await line.flush()
                result = await answer
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise RequestTimeout(route, seconds, sent=pending.sent) from error
        finally:
            self._answers.pop(pending, None)
            self._conversation.forget(pending)
            if answer.done() and not answer.cancelled():
                answer.exception()  # a failure that came while the sending failed too is not reported twice
        return result if returns is None else as_type(route, returns, result)

    async def notify(self, route: str, body: Body | None = None) -> None:
        """Send a message that has no answer.

        Returning means it was handed to the connection; it may be lost with it, and an error about it comes to
        `on_error`. Raises NotConnected at once while the client is not connected, for what nobody waits for is seldom
        worth telling later; MessageTooLarge; RequestTimeout when the gateway takes nothing for the client's timeout.
        """
        self._check_open()
        line = self._lifeline.line
        if line is None:
            raise NotConnected(f"the client is {self.status.state}: {self.status.reason}")
        frame = self._conversation.notify(route, {} if body is None else body)
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                await line.flowing.wait()
                await line.transport.send(frame)
        except TransportClosed as closed:
            raise NotConnected(closed.reason) from closed
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
        Iterating may raise ConnectionLost, SessionLost, PushOverflow, AnswerInvalid.
        """
        return self._audience.admit(route, typed_as(body), buffer_max)

    @overload
    def on(self, route: str, fn: Callback[Push[T]], *, body: type[T] | TypeAdapter[T]) -> Callable[[], None]: ...

    @overload
    def on(self, route: str, fn: Callback[Push[Any]]) -> Callable[[], None]: ...

    def on(
        self,
        route: str,
        fn: Callback[Push[Any]],
        *,
        body: type[Any] | TypeAdapter[Any] | None = None,
    ) -> Callable[[], None]:
        """Call `fn`, plain or async, with each push of `route`, one at a time and in order; returns what
        ends it.

        What `fn` raises, PushOverflow when it is too slow, and bodies that do not fit go to `on_error`, and
        the pushes go on. It lives through reconnections; `on_session` tells of a new session.
        """
        stream = self.pushes(route) if body is None else self.pushes(route, body=body)
        task = self._callbacks.spawn(self._deliver(stream, fn))

        def cancel() -> None:
            stream.close()
            task.cancel()

        return cancel

    def on_status(self, fn: Callback[Status]) -> None:
        """Call `fn`, plain or async, with each change of `status`."""
        self._on_status.append(fn)

    def on_session(self, fn: Callback[Session]) -> None:
        """Call `fn`, plain or async, each time the client is back after a loss.

        When `recovered` is False a new session has begun: rejoin rooms, reload lists, ask what became of requests that
        raised SessionLost.
        """
        self._on_session.append(fn)

    def on_drain(self, fn: Callback[wire.Drain]) -> None:
        """Call `fn`, plain or async, when the gateway says that it is about to close; at once if it already
        has.
        """
        self._on_drain.append(fn)
        if self.drain is not None:
            self._callbacks.call(fn, self.drain)

    def on_error(self, fn: Callable[[Exception], None]) -> None:
        """Call `fn` with what no caller waits for: errors with id 0, failures of callbacks. Without one
        they are logged.
        """
        self._callbacks.on_error.append(fn)

    def retry(self) -> None:
        """While the client waits to try again: try now."""
        self._lifeline.hurry.set()

    async def close(self) -> None:
        """End the session: close the connection, politely for at most 2 s. Waiting requests raise ConnectionLost,
        streams end.
        """
        line = self._lifeline.line
        if not self.closed:
            self._closing = True
            self.ended(ConnectionLost(1000, "closed by this client"))
        if line is not None:
            await line.transport.close()
        await self._callbacks.stop()

    # -- from the lifeline -----------------------------------------------------------------------------------

    def begun(self, begun: Begun) -> None:
        """The client is back after a loss."""
        self.recovered = begun.recovered
        if not begun.recovered:
            self._audience.interrupt()
        for orphan in begun.orphans:
            self._settle(orphan, SessionLost(sent=orphan.sent))
        session = Session(self.session, self.user, begun.recovered)
        for fn in self._on_session:
            self._callbacks.call(fn, session)

    def hear(self, event: Event) -> None:
        """Something came from the gateway."""
        match event:
            case Answer(request=request, body=body, error=None):
                self._settle(request, body)
            case Answer(request=request, error=error) if error is not None:
                self._settle(request, RequestFailed(error, request.route))
            case wire.Push(seq=seq, route=route, body=body):
                self.unheard_pushes += not self._audience.offer(seq, route, body)
            case Quiet(late=late):
                self.late_answers += late
            case Complaint(error=error, goodbye=False):
                self.report(RequestFailed(error))
            case wire.Drain() as drain:
                for fn in self._on_drain:
                    self._callbacks.call(fn, drain)

    def become(self, status: Status) -> None:
        """The connection is doing otherwise."""
        for fn in self._on_status:
            self._callbacks.call(fn, status)

    def report(self, error: Exception) -> None:
        """Something went wrong that no caller waits for."""
        self._callbacks.report(error)

    def ended(self, lost: ConnectionLost) -> None:
        """The client does not come back: tell everybody who waits."""
        if self._lost is not None:
            return
        self._lost = lost
        self._ended.set()
        self._lifeline.become(Status("closed", lost.reason, lost.code))
        for request in self._answers:
            self._settle(request, ConnectionLost(lost.code, lost.reason, error=lost.error, sent=request.sent))
        # Each consumer gets an exception of its own: tracebacks grow on a shared one.
        self._audience.finish(
            None if self._closing else lambda: ConnectionLost(lost.code, lost.reason, error=lost.error)
        )

    # -- parts -----------------------------------------------------------------------------------------------

    def _settle(self, request: Pending, outcome: object) -> None:
        answer = self._answers.get(request)
        if answer is not None and not answer.done():
            if isinstance(outcome, ClientError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _check_open(self) -> None:
        if self._lost is not None:
            raise NotConnected(self._lost.reason)

    async def _deliver(self, stream: PushStream[Any], fn: Callback[Push[Any]]) -> None:
        while True:
            try:
                push = await anext(stream)
            except SessionLost:
                continue  # `on_session` tells of it
            except (StopAsyncIteration, ConnectionLost):
                return  # the end of the stream is `closed` and `lost`, which others watch
            except ClientError as error:
                self.report(error)
            else:
                await self._callbacks.run(fn, push)

    @property
    def _welcome(self) -> wire.Welcome:
        welcome = self._conversation.welcome
        if welcome is None:
            raise RuntimeError("the gateway has not welcomed this client; use connect()")
        return welcome
