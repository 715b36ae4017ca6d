"""A client's seat at the gate: its session, its agents, and the connection that carries them at the moment.

Connection --frame--> Session --request--> seat --CLIENT message--> agent
link <-------frame--- _answered <-------------- answer ------------ agent

The seat outlives connections: while its client is away, requests in flight go on and pushes are kept.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from skyloom import CallError, Failed, NotExecuted
from skyloom.message.value import Handed
from skyloom_gateway.client_error import (
    DRAINING,
    EXPIRED,
    INTERNAL,
    OVERLOADED,
    TOO_BIG,
    UNAVAILABLE,
    UNLOGGED,
    client_error,
    unknown_route,
)
from skyloom_gateway.push import ClientRef
from skyloom_gateway.session.event import Close, Reply
from skyloom_gateway.session.session import Session, State
from skyloom_gateway.tally import OK, close_label
from skyloom_gateway.wire import CloseCode, Notify, Request, WireError
from skyloom_gateway.wire.fields import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from skyloom import Address
    from skyloom.node.clock import Timer
    from skyloom_gateway.app import App
    from skyloom_gateway.auth import Identity
    from skyloom_gateway.connection import Connection
    from skyloom_gateway.gate import Gate
    from skyloom_gateway.listener import Link
    from skyloom_gateway.session.event import Event
    from skyloom_gateway.tally import RouteTally

EARLY_NOTIFIES_MAX: Final = 64
"""Notifies of one client that wait while its agent starts; more are dropped, which the client is told."""

TCP_BODY_BYTES_MAX: Final = 65_000
"""The longest answer that fits a TCP frame of 65,535 bytes with its head."""

PROTOCOL_ERRORS: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes of RFC 6455 for a client that broke the rules."""

_SESSION_BYTES: Final = 16
_SECRET_BYTES: Final = 24
_REPLACED: Final = "a newer connection took this session over"


class _Early(NamedTuple):
    """A frame on its way to an agent that may still be starting; of a request, where it is counted and when it came."""

    frame: Request | Notify
    tally: RouteTally | None = None
    came: float = 0.0


class Seat:
    """One client's seat. `link` is None while the client is away; `weight` is what it weighs with the gate then."""

    __slots__ = (
        "_agents",
        "_away_timer",
        "_connection",
        "_gate",
        "_starting",
        "claims",
        "is_proven",
        "kind",
        "link",
        "log",
        "session",
        "user",
        "weight",
    )

    def __init__(self, gate: Gate, connection: Connection, identity: Identity, *, is_proven: bool) -> None:
        self._gate = gate
        self._connection: Connection | None = None
        self._agents: dict[str, Address] = {}
        self._starting: dict[str, list[_Early]] = {}
        self._away_timer: Timer | None = None
        self.link: Link | None = None
        self.kind = connection.link.kind
        self.user = user = identity.user
        self.claims = identity.claims
        self.is_proven = is_proven
        self.weight = 0
        self.log = connection.log
        self.session = Session(
            gate.new_secret(_SESSION_BYTES),
            user,
            connection.link.codec,
            gate.limits,
            gate.clock.now(),
            gate.new_secret(_SECRET_BYTES),
        )

    def status(self) -> dict[str, object]:
        """What a console shows of it."""
        session = self.session
        return {
            "session": session.id,
            "state": session.state.value,
            "transport": self.kind,
            "encoding": session.codec.name,
            "in_flight": session.in_flight,
            "pushes": session.seq,
            "kept_bytes": session.kept_bytes,
            "agents": {app: str(agent) for app, agent in self._agents.items()},
        }

    # -- the client comes and goes ---------------------------------------------------------------------------

    def open(self, connection: Connection) -> None:
        """Let a client in that has no session yet."""
        gate = self._gate
        welcome = self._welcome(recovered=False)
        self._carry(connection)
        self.log.info("session opened", transport=self.kind, encoding=self.session.codec.name)
        gate.sessions[self.session.id] = self
        gate.tell_watchdogs("open", self.session.id, self.user, connection.link.peer)
        connection.link.send(welcome)

    def take_over(self, connection: Connection, seq: int, claims: Mapping[str, Any]) -> None:
        """Let a client go on that has the pushes up to `seq`; its older connection, if it is still there, ends.

        From now on its claims are those that it came back with.
        """
        gate, session, link = self._gate, self.session, connection.link
        older = self._connection
        if older is None:
            self._stop_waiting()
        else:
            self._suspend(CloseCode.REPLACED, _REPLACED)
            older.replaced(_REPLACED)
        session.resume(seq)
        self.claims = claims
        gate.tally.resumed += 1
        self._carry(connection)
        self.log.info("session resumed")
        link.send(self._welcome(recovered=True))
        for frame in session.replay():
            link.send(frame)
        gate.tell_watchdogs("resume", session.id, link.peer)
        self._tell_agents("resume", dict(claims))

    def _carry(self, connection: Connection) -> None:
        self._connection, self.link = connection, connection.link
        connection.seat = self
        self.session.share(self._gate.quotas.shared(self, connection.link.peer))
        self.log = connection.log.bind(session=self.session.id, user=self.user)

    def _welcome(self, *, recovered: bool) -> bytes:
        gate = self._gate
        fields = {"heartbeat": plain(gate.settings.heartbeat_seconds), "contract": gate.contract}
        return self.session.welcome(recovered, fields)

    def left(self, code: int, reason: str) -> None:
        """The connection is gone: wait for the client, unless it said goodbye, broke the rules, or the server ends."""
        if self.session.state is State.CLOSED:
            return
        if code == CloseCode.NORMAL or code in PROTOCOL_ERRORS or self._gate.draining:
            self.give_up(code, reason)
        else:
            self._suspend(code, reason)
            self._wait()

    def _suspend(self, code: int, reason: str) -> None:
        gate, session = self._gate, self.session
        self._connection = self.link = None
        session.suspend(gate.clock.now())
        self.log.info("session suspended", code=int(code), reason=reason)
        gate.tell_watchdogs("suspend", session.id, int(code), reason)
        self._tell_agents("suspend")

    def _wait(self) -> None:
        gate, session = self._gate, self.session
        deadline = session.deadline(gate.clock.now())
        assert deadline is not None
        self._away_timer = gate.clock.call_at(deadline, self._stayed_away)
        gate.suspended[session.id] = self
        self._weigh()

    def _stayed_away(self) -> None:
        # Loops round timers, so this may be a hair before the deadline, and no other timer follows.
        now = self._gate.clock.now()
        if self.session.expire(self.session.deadline(now) or now):
            self.give_up(CloseCode.GOING_AWAY, "the client did not come back")

    def _stop_waiting(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None
            del self._gate.suspended[self.session.id]
            self._gate.suspended_bytes -= self.weight
            self.weight = 0

    def _weigh(self) -> None:
        """While the client is away: tell the gate how much is kept for it, which may make it end a session."""
        weight = self.session.kept_bytes
        self._gate.suspended_bytes += weight - self.weight
        self.weight = weight
        self._gate.limit_suspended()

    def give_up(self, code: int, reason: str) -> None:
        """End the session of a client that is not there to be told."""
        self.session.end()
        self._ended(code, reason)

    def end(self, code: CloseCode, reason: str, error: WireError | None = None) -> None:
        """End the session from the server's side; a client that is there is told by `code` and `error`."""
        if self.session.state is not State.CLOSED:
            self._close(self.session.close(code, reason, error))

    def _close(self, close: Close) -> None:
        """The session has closed: let the connection and the agents go."""
        if close.code is CloseCode.RATE:
            self._gate.tell_watchdogs("warning", self.session.id, close.reason)
        if self.link is not None:
            self.link.close(close.code, close.reason, close.frame)
        self._ended(close.code, close.reason)

    def _ended(self, code: int, reason: str) -> None:
        gate, session = self._gate, self.session
        self._stop_waiting()
        self._connection = self.link = None
        del gate.sessions[session.id]
        gate.quotas.leave(self)
        tally = gate.tally
        tally.ended[close_label(code)] += 1
        tally.limits.update(session.hits)
        self.log.info("session closed", code=int(code), reason=reason)
        gate.tell_watchdogs("close", session.id, int(code), reason)
        for agent in self._agents.values():
            gate.end_agent(agent, "close")
        self._agents.clear()
        gate.request_ended()

    # -- from the client -------------------------------------------------------------------------------------

    def act(self, event: Event) -> None:
        """Do what a frame amounts to that is no request."""
        if isinstance(event, Notify):
            self._notify(event)
        elif isinstance(event, Reply):
            self._send(event.frame)
        elif isinstance(event, Close):
            self._close(event)

    def request(self, frame: Request, came: float) -> None:
        """Forward a request to the agent of its app; `came` is when it did, by the node's stopwatch."""
        gate, route = self._gate, frame.route
        tally = gate.tally.requests.get(route)
        if tally is None:
            error = unknown_route(route, is_request=route not in gate.apps_by_route)
            self._fail(frame.id, gate.tally.other, came, error)
            return
        app = gate.apps_by_route[route]
        if gate.draining:
            self._fail(frame.id, tally, came, DRAINING, ran=False)
        elif (agent := self._agents.get(app.name)) is not None:
            body = frame.body
            args = (route, body if type(body) is bytes else Handed(body))
            # `_forward`, spelt out for every request.
            gate.ask(agent, args, partial(self._answered, frame.id, tally, came))
        else:
            self._start_agent(app, _Early(frame, tally, came))

    def _notify(self, frame: Notify) -> None:
        gate = self._gate
        app = gate.apps_by_route.get(frame.route)
        if app is None or app.routes[frame.route].is_request:
            self._send(self.session.codec.error(0, unknown_route(frame.route, is_request=False)))
            return
        gate.tally.notifies[frame.route] += 1
        if (agent := self._agents.get(app.name)) is not None:
            self._forward(agent, _Early(frame))
        else:
            self._start_agent(app, _Early(frame))

    def _forward(self, agent: Address, early: _Early) -> None:
        frame, tally, came = early
        body = frame.body
        args = (frame.route, body if type(body) is bytes else Handed(body))
        if isinstance(frame, Request) and tally is not None:
            self._gate.ask(agent, args, partial(self._answered, frame.id, tally, came))
        else:
            self._gate.ask(agent, args, self._notified)

    # -- agents ----------------------------------------------------------------------------------------------

    def _start_agent(self, app: App, early: _Early) -> None:
        gate = self._gate
        waiting = self._starting.get(app.name)
        if waiting is None:
            waiting = self._starting[app.name] = []
            gate.fork(self._spawn_agent(app))
        if early.tally is not None:  # bounded by the session's requests in flight
            gate.clock.call_at(gate.clock.now() + gate.settings.request_timeout_seconds, self._waited, waiting, early)
        elif len(waiting) >= EARLY_NOTIFIES_MAX:
            self._send(self.session.codec.error(0, OVERLOADED))
            return
        waiting.append(early)

    def _waited(self, waiting: list[_Early], early: _Early) -> None:
        """A request has had its time; if it still waits for its agent to start, that was all."""
        if any(other is early for other in waiting):  # its id may have been used again
            waiting.remove(early)
            self._fail_early(early, EXPIRED)

    def _fail_early(self, early: _Early, error: WireError) -> None:
        """Answer a request that waited for its agent in vain."""
        frame, tally, came = early
        if isinstance(frame, Request) and tally is not None:
            self._fail(frame.id, tally, came, error, ran=False)

    async def _spawn_agent(self, app: App) -> None:
        gate = self._gate
        claims = self.claims
        client = ClientRef(gate.address, self.session.id, self.session.codec.name)
        agent: Address | None = None
        try:
            agent = await gate.spawn(app.agent, client, self.user, deepcopy(dict(claims)))
        except Exception as error:  # the agent is the user's code, its __init__ included
            told = isinstance(error, Failed) and error.code == "skyloom.start_failed"  # by the node, with its traceback
            self.log.error("agent did not start", app=app.name, reason=str(error), exc_info=None if told else error)
        waiting = self._starting.pop(app.name)
        frames = waiting.copy()
        waiting.clear()  # so that `_waited` finds none
        if agent is None:
            for early in frames:
                self._fail_early(early, UNAVAILABLE)
        elif self.session.state is State.CLOSED:
            gate.end_agent(agent, "close")
        else:
            self._agents[app.name] = agent
            gate.watch_agent(agent, self, app.name)
            self.log.debug("agent started", app=app.name, agent=str(agent))
            for early in frames:
                self._forward(agent, early)  # a drain that began meanwhile lets it through: it is in flight
            if claims is not self.claims:  # it came back meanwhile
                gate.send(agent, "socket", "resume", dict(self.claims))
            if self.session.state is State.SUSPENDED:
                gate.send(agent, "socket", "suspend")

    def agent_ended(self, app: str) -> None:
        """An agent died by itself; the next frame for its app starts another one."""
        self._agents.pop(app, None)

    def _tell_agents(self, event: str, *args: object) -> None:
        for agent in self._agents.values():
            self._gate.send(agent, "socket", event, *args)

    # -- to the client ---------------------------------------------------------------------------------------

    def _answered(self, id: int, tally: RouteTally, came: float, body: bytes, error: CallError | None) -> None:
        session = self.session
        if not session.awaits(id):
            return
        if error is not None:
            self._fail(id, tally, came, self._tellable(error), ran=not isinstance(error, NotExecuted))
        elif len(body) > TCP_BODY_BYTES_MAX and self.kind == "tcp":
            self._fail(id, tally, came, TOO_BIG)
        else:
            tally.codes[OK] += 1
            tally.seconds.add(self._gate.node.stopwatch() - came)
            frame = session.respond(id, body)
            link = self.link
            if link is None:
                self._weigh()
            else:
                link.send(frame)
            if self._gate.draining:
                self._gate.request_ended()

    def _notified(self, _: object, error: CallError | None) -> None:
        if error is not None:
            self._send(self.session.codec.error(0, self._tellable(error)))

    def _tellable(self, error: CallError) -> WireError:
        """`client_error`, in a form that surely fits a frame: details are whatever the app put there."""
        told = client_error(error)
        if told is INTERNAL and error.code in UNLOGGED:
            self.log.error(
                "a client is told gateway.internal",
                error=str(error),
                remedy="for more, raise a Failed with a code of the app's: class X(Failed, code='<app>.<what>')",
            )
        try:
            size = len(self.session.codec.error(0, told))
        except ValueError as fault:
            self.log.error("an error's details have no form in a frame", code=error.code, error=str(fault))
            return INTERNAL
        return TOO_BIG if size > TCP_BODY_BYTES_MAX and self.kind == "tcp" else told

    def _fail(self, id: int, tally: RouteTally, came: float, error: WireError, *, ran: bool = True) -> None:
        if self.session.awaits(id):
            tally.ended(error.code, self._gate.node.stopwatch() - came)
            frame = self.session.fail(id, error, ran=ran)
            if self.link is None:
                self._weigh()
            else:
                self.link.send(frame)
            if self._gate.draining:
                self._gate.request_ended()

    def _send(self, frame: bytes) -> None:
        """Send what is of no use to a client that is away."""
        if self.link is not None:
            self.link.send(frame)

    def push(self, tail: bytes) -> None:
        """Send or keep a push whose tail is encoded already."""
        link = self.link
        if link is not None:
            link.send(self.session.push(tail), tail)
        elif self.session.keep(tail):
            self._weigh()
        else:
            self.give_up(CloseCode.OVERLOADED, "more was pushed than is kept for a client that is away")

    def drain(self) -> None:
        """Ask the client to come back elsewhere or later, each at another time."""
        settings = self._gate.settings
        seconds = round(self._gate.random.uniform(0.0, settings.drain_reconnect_seconds), 3)
        self._send(self.session.codec.drain("restart", seconds))
