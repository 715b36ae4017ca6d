"""One client at the gate: its link, its session, and its agents.

link --data--> received --Session--> request --CLIENT message--> agent
link <--frame-- _answered <---------------- answer ------------- agent
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from skyloom import CallError, Expired, NotExecuted, Unknown
from skyloom.message.value import Handed
from skyloom_gateway.auth import Denied, Forbidden, Identity, authenticate
from skyloom_gateway.auth.identity import NO_CLAIMS
from skyloom_gateway.push import ClientRef
from skyloom_gateway.session.event import Close, HelloEvent, Reply
from skyloom_gateway.session.session import Session, State
from skyloom_gateway.wire import CloseCode, ErrorKind, Notify, Request, WireError, close_error

if TYPE_CHECKING:
    import asyncio

    from skyloom import Address
    from skyloom.node.clock import Timer
    from skyloom_gateway.app import App
    from skyloom_gateway.gate import Gate
    from skyloom_gateway.listener import Link
    from skyloom_gateway.session.event import Event

EARLY_NOTIFIES_MAX: Final = 64
"""Notifies of one client that wait while its agent starts; more are dropped, which the client is told."""

TCP_BODY_BYTES_MAX: Final = 65_000
"""The longest answer that fits a TCP frame of 65,535 bytes with its head."""

_SESSION_BYTES: Final = 16
_KEY_BYTES: Final = 24


class Connection:
    """The gate's half of one client; a listener's `Receiver`."""

    __slots__ = (
        "_agents",
        "_authenticating",
        "_gate",
        "_hello_timer",
        "_now",
        "_starting",
        "claims",
        "link",
        "log",
        "session",
        "user",
    )

    def __init__(self, gate: Gate, link: Link, number: int) -> None:
        self._gate = gate
        self.link = link
        self.user = ""
        self.claims = NO_CLAIMS
        self.session = Session(link.codec, gate.limits, gate.clock.now())
        self.log = structlog.get_logger("skyloom.gate").bind(connection=number, peer=link.peer)
        self._now = gate.clock.now
        self._agents: dict[str, Address] = {}
        self._starting: dict[str, list[Request | Notify]] = {}
        self._authenticating: asyncio.Task[None] | None = None
        deadline = self.session.deadline(gate.clock.now())
        assert deadline is not None
        self._hello_timer: Timer | None = gate.clock.call_at(deadline, self._hello_late)

    # -- from the client -------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """`Receiver.received`: one frame from the client."""
        event = self.session.receive(data, self._now())
        if type(event) is Request:
            self._request(event)
        else:
            self._act(event)

    def _act(self, event: Event) -> None:
        if isinstance(event, Request):
            self._request(event)
        elif isinstance(event, Notify):
            self._notify(event)
        elif isinstance(event, Reply):
            self.link.send(event.frame)
        elif isinstance(event, Close):
            self._close(event)
        elif isinstance(event, HelloEvent):
            self._authenticating = self._gate.fork(self._authenticate(event))

    async def _authenticate(self, event: HelloEvent) -> None:
        gate = self._gate
        try:
            identity = await authenticate(gate.authenticators, event.hello.auth, self.link.peer)
            if self.session.state is not State.GREETING:
                return
            self._greet(identity)
        except Denied as denied:
            if self.session.state is State.GREETING:
                self.log.info("client denied", reason=denied.message, **denied.log_fields)
                code, reason = CloseCode.UNAUTHENTICATED, "not authenticated"
                if isinstance(denied, Forbidden):
                    code, reason = CloseCode.FORBIDDEN, "forbidden"
                self._close(self.session.close(code, reason, close_error(code, denied.message)))
        except Exception as error:  # an authenticator is the user's code: its fault, not the client's
            self.log.error("authenticator failed", exc_info=error)
            if self.session.state is State.GREETING:
                sorry = WireError("gateway.internal", ErrorKind.INTERNAL, "the server failed to authenticate you")
                self._close(self.session.close(CloseCode.UNAUTHENTICATED, "not authenticated", sorry))
        else:
            for early in self.session.release(gate.clock.now()):
                self._act(early)

    def _greet(self, identity: Identity) -> None:
        gate = self._gate
        user = identity.user
        session_id = gate.new_secret(_SESSION_BYTES)
        welcome = self.session.greet(
            session_id,
            gate.new_secret(_KEY_BYTES),
            user,
            {"heartbeat": gate.settings.heartbeat_seconds, "contract": gate.contract},
        )
        self._stop_waiting()
        self.user = user
        self.claims = identity.claims
        self.log = self.log.bind(session=session_id, user=user)
        gate.sessions[session_id] = self
        self.log.info("session opened", transport=self.link.kind, encoding=self.link.codec.name)
        gate.tell_watchdogs("open", session_id, user, self.link.peer)
        self.link.send(welcome)
        if gate.draining:
            self.drain()

    def _hello_late(self) -> None:
        # Loops round timers, so this may be a hair before the deadline, and no other timer follows.
        now = self._gate.clock.now()
        close = self.session.expire(self.session.deadline(now) or now)
        if close is not None:
            self._close(close)

    def _stop_waiting(self) -> None:
        """The client was let in or is gone: nothing of the greeting goes on."""
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None
        self._authenticating = None

    def _request(self, frame: Request) -> None:
        gate = self._gate
        app = gate.apps_by_route.get(frame.route)
        if app is None or not app.routes[frame.route].is_request:
            self._fail(frame.id, _unknown_route(frame.route, is_request=app is None))
        elif gate.draining:
            self._fail(frame.id, _DRAINING)
        elif (agent := self._agents.get(app.name)) is not None:
            body = frame.body
            args = (frame.route, body if type(body) is bytes else Handed(body))
            gate.ask(agent, args, partial(self._answered, frame.id))  # `_forward`, spelt out for every request
        else:
            self._start_agent(app, frame)

    def _notify(self, frame: Notify) -> None:
        gate = self._gate
        app = gate.apps_by_route.get(frame.route)
        if app is None or app.routes[frame.route].is_request:
            self.link.send(self.link.codec.error(0, _unknown_route(frame.route, is_request=False)))
        elif (agent := self._agents.get(app.name)) is not None:
            self._forward(agent, frame)
        else:
            self._start_agent(app, frame)

    def _forward(self, agent: Address, frame: Request | Notify) -> None:
        body = frame.body
        on_settled = partial(self._answered, frame.id) if isinstance(frame, Request) else self._notified
        self._gate.ask(agent, (frame.route, body if type(body) is bytes else Handed(body)), on_settled)

    # -- agents ----------------------------------------------------------------------------------------------

    def _start_agent(self, app: App, frame: Request | Notify) -> None:
        gate = self._gate
        waiting = self._starting.get(app.name)
        if waiting is None:
            waiting = self._starting[app.name] = []
            gate.fork(self._spawn_agent(app))
        if isinstance(frame, Request):  # bounded by the session's requests in flight
            gate.clock.call_at(gate.clock.now() + gate.settings.request_timeout_seconds, self._waited, waiting, frame)
        elif len(waiting) >= EARLY_NOTIFIES_MAX:
            self.link.send(self.link.codec.error(0, _OVERLOADED))
            return
        waiting.append(frame)

    def _waited(self, waiting: list[Request | Notify], frame: Request) -> None:
        """A request has had its time; if it still waits for its agent to start, that was all."""
        if any(other is frame for other in waiting):  # its id may have been used again
            waiting.remove(frame)
            self._fail(frame.id, _EXPIRED)

    async def _spawn_agent(self, app: App) -> None:
        gate = self._gate
        client = ClientRef(gate.address, self.session.id, self.link.codec.name)
        agent: Address | None = None
        try:
            agent = await gate.spawn(app.agent, client, self.user, deepcopy(dict(self.claims)))
        except Exception as error:  # the agent is the user's code, its __init__ included
            self.log.error("agent did not start", app=app.name, exc_info=error)
        waiting = self._starting.pop(app.name)
        frames = waiting.copy()
        waiting.clear()  # so that `_waited` finds none
        if agent is None:
            for frame in frames:
                if isinstance(frame, Request):
                    self._fail(frame.id, _UNAVAILABLE)
        elif self.session.state is not State.GREETED:  # the client left meanwhile
            gate.end_agent(agent, "close")
        else:
            self._agents[app.name] = agent
            gate.watch_agent(agent, self, app.name)
            self.log.debug("agent started", app=app.name, agent=str(agent))
            for frame in frames:
                self._forward(agent, frame)  # a drain that began meanwhile lets it through: it is in flight

    def agent_ended(self, app: str) -> None:
        """An agent died by itself; the next frame for its app starts another one."""
        self._agents.pop(app, None)

    # -- to the client ---------------------------------------------------------------------------------------

    def _answered(self, id: int, body: bytes, error: CallError | None) -> None:
        session = self.session
        if not session.awaits(id):
            return
        if error is not None:
            self._fail(id, self._tellable(error))
        elif len(body) > TCP_BODY_BYTES_MAX and self.link.kind == "tcp":
            self._fail(id, _TOO_BIG)
        else:
            self.link.send(session.respond(id, body))
            if self._gate.draining:
                self._gate.request_ended()

    def _notified(self, _: object, error: CallError | None) -> None:
        if error is not None and self.session.state is State.GREETED:
            self.link.send(self.link.codec.error(0, self._tellable(error)))

    def _tellable(self, error: CallError) -> WireError:
        """`client_error`, in a form that surely fits a frame: details are whatever the app put there."""
        told = client_error(error)
        try:
            size = len(self.link.codec.error(0, told))
        except ValueError as fault:
            self.log.error("an error's details have no form in a frame", code=error.code, error=str(fault))
            return _INTERNAL
        return _TOO_BIG if size > TCP_BODY_BYTES_MAX and self.link.kind == "tcp" else told

    def _fail(self, id: int, error: WireError) -> None:
        if self.session.awaits(id):
            self.link.send(self.session.fail(id, error))
            if self._gate.draining:
                self._gate.request_ended()

    def push(self, tail: bytes) -> None:
        """Send a push whose tail is encoded already; nothing happens when the session has ended."""
        if self.session.state is State.GREETED:
            self.link.send(self.session.push(tail))

    def drain(self) -> None:
        """Ask the client to come back elsewhere or later, each at another time."""
        if self.session.state is State.GREETED:
            settings = self._gate.settings
            seconds = round(self._gate.random.uniform(0.0, settings.drain_reconnect_seconds), 3)
            self.link.send(self.link.codec.drain("restart", seconds))

    def end(self, code: CloseCode, reason: str) -> None:
        """Close from the server's side."""
        self._close(self.session.close(code, reason))

    def _close(self, close: Close) -> None:
        if close.code is CloseCode.RATE:
            self._gate.tell_watchdogs("warning", self.session.id, close.reason)
        self.link.close(close.code, close.reason, close.frame)

    def closed(self, code: int, reason: str) -> None:
        """`Receiver.closed`: the transport is gone, and with it, for now, the session."""
        gate = self._gate
        if self._authenticating is not None:  # an authenticator that hangs must not outlive its client
            self._authenticating.cancel()
        self._stop_waiting()
        self.session.lost()
        gate.left(self)
        if not self.session.id:
            self.log.debug("connection closed before a session", code=code, reason=reason)
            return
        self.log.info("session closed", code=code, reason=reason)
        gate.tell_watchdogs("close", self.session.id, code, reason)
        for agent in self._agents.values():
            gate.end_agent(agent, "close")
        self._agents.clear()


def _unknown_route(route: str, *, is_request: bool) -> WireError:
    text = f"no route {route!r} here" if is_request else f"no route {route!r} here for this kind of frame"
    return WireError("gateway.unknown_route", ErrorKind.UNIMPLEMENTED, text)


_DRAINING = WireError("gateway.draining", ErrorKind.UNAVAILABLE, "the server restarts: connect again", retryable=True)
_UNAVAILABLE = WireError("gateway.unavailable", ErrorKind.UNAVAILABLE, "not available now: try again", retryable=True)
_OVERLOADED = WireError(
    "gateway.overloaded", ErrorKind.RESOURCE_EXHAUSTED, "too much is waiting: try again later", retryable=True
)
_EXPIRED = WireError("gateway.deadline_exceeded", ErrorKind.DEADLINE_EXCEEDED, "no answer in time", retryable=False)
_TOO_BIG = WireError(
    "gateway.answer_too_big", ErrorKind.RESOURCE_EXHAUSTED, "the answer does not fit a TCP frame: ask for less at once"
)
_INTERNAL = WireError("gateway.internal", ErrorKind.INTERNAL, "the server failed; it has been logged")


def client_error(error: CallError) -> WireError:
    """What a client is told of an error: an app's own as it is, the runtime's by its kind and nothing more."""
    if not error.code.startswith("skyloom."):
        return WireError(error.code, ErrorKind(error.kind), error.message, error.retryable, error.details)
    if isinstance(error, Expired) or error.kind == "deadline_exceeded":
        return _EXPIRED
    if error.kind == "resource_exhausted":
        return _OVERLOADED
    if isinstance(error, (NotExecuted, Unknown)) or error.kind == "unavailable":
        return _UNAVAILABLE
    return _INTERNAL
