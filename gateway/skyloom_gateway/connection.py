"""One connection at the gate: until its client is let in, and then for as long as it carries the client's seat.

link --data--> received --Greeting--> hello: authenticate, then a new seat, or the one that it asks back
               received --Session---> what the frame amounts to: the seat's business
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from skyloom_gateway.auth import Denied, Forbidden, Identity, authenticate
from skyloom_gateway.client_error import KEY_REUSED
from skyloom_gateway.logins import Refused
from skyloom_gateway.quotas import TOO_MANY_SESSIONS
from skyloom_gateway.seat import Seat
from skyloom_gateway.session.event import Close, HelloEvent
from skyloom_gateway.session.greeting import Greeting, Phase
from skyloom_gateway.session.session import Admission
from skyloom_gateway.tally import OK, close_label
from skyloom_gateway.wire import CLOSE_CAUSES, CloseCode, ErrorKind, Hello, Request, Resume, WireError, close_error

if TYPE_CHECKING:
    import asyncio

    from skyloom.node.clock import Timer
    from skyloom_gateway.gate import Gate
    from skyloom_gateway.listener import Link


FAILED_TO_AUTHENTICATE: Final = WireError(
    "gateway.internal", ErrorKind.INTERNAL, "the server failed to authenticate you"
)


class Connection:
    """The gate's half of one connection; a listener's `Receiver`. `seat` is what it carries, if it does."""

    __slots__ = (
        "_authenticating",
        "_gate",
        "_greeting",
        "_hello_timer",
        "_now",
        "_stopwatch",
        "link",
        "log",
        "number",
        "seat",
    )

    def __init__(self, gate: Gate, link: Link, number: int) -> None:
        self._gate = gate
        self.link = link
        self.number = number
        self.seat: Seat | None = None
        self.log = structlog.get_logger("skyloom.gate").bind(connection=number, peer=link.peer)
        self._now = gate.clock.now
        self._stopwatch = gate.node.stopwatch
        self._greeting = Greeting(link.codec, gate.limits, gate.clock.now())
        self._authenticating: asyncio.Task[None] | None = None
        deadline = self._greeting.deadline(gate.clock.now())
        assert deadline is not None
        self._hello_timer: Timer | None = gate.clock.call_at(deadline, self._hello_late)

    def received(self, data: bytes) -> None:
        """`Receiver.received`: one frame from the client."""
        seat = self.seat
        if seat is None:
            self._received_early(data)
            return
        event = seat.session.receive(data, self._now())
        if type(event) is Request:
            seat.request(event, self._stopwatch())
        else:
            seat.act(event)

    def _received_early(self, data: bytes) -> None:
        event = self._greeting.receive(data)
        if isinstance(event, HelloEvent):
            self._authenticating = self._gate.fork(self._authenticate(event))
        elif isinstance(event, Close):
            self._close(event)

    async def _authenticate(self, event: HelloEvent) -> None:
        greeting, quotas = self._greeting, self._gate.quotas
        try:
            async with quotas.logins.turn(quotas.address(self.link.peer), self._now()):
                identity = await authenticate(self._gate.authenticators, event.hello.auth, self.link.peer)
            if greeting.phase is not Phase.GREETING or not self._let_in(identity, event.hello):
                return
        except Refused as refused:
            self._gate.tally.logins[refused.error.code] += 1
            self.log.info("login refused", reason=refused.error.message)
            self._close(greeting.close(CloseCode.RATE, "too many logins", refused.error))
        except Denied as denied:
            if greeting.phase is Phase.GREETING:
                self.log.info("client denied", reason=denied.message, **denied.log_fields)
                code, reason = CloseCode.UNAUTHENTICATED, "not authenticated"
                if isinstance(denied, Forbidden):
                    code, reason = CloseCode.FORBIDDEN, "forbidden"
                self._gate.tally.logins[CLOSE_CAUSES[code].code] += 1
                self._close(greeting.close(code, reason, close_error(code, denied.message)))
        except Exception as error:  # an authenticator is the user's code: its fault, not the client's
            self.log.error("authenticator failed", exc_info=error)
            if greeting.phase is Phase.GREETING:
                self._gate.tally.logins[FAILED_TO_AUTHENTICATE.code] += 1
                self._close(greeting.close(CloseCode.UNAUTHENTICATED, "not authenticated", FAILED_TO_AUTHENTICATE))
        else:
            for early in greeting.release():
                self.received(early)

    def _let_in(self, identity: Identity, hello: Hello) -> bool:
        """Give the client a seat; False when it may not have one, and was told so."""
        resume, quotas, logins = hello.resume, self._gate.quotas, self._gate.tally.logins
        seat = None if resume is None else self._asked_back(identity, resume)
        if seat is None or resume is None:
            seat = Seat(self._gate, self, identity, is_proven=quotas.is_proven(hello.auth.get("scheme")))
            if not quotas.enter(seat):
                logins[TOO_MANY_SESSIONS.code] += 1
                self._close(self._greeting.close(CloseCode.RATE, "too many sessions", TOO_MANY_SESSIONS))
                return False
            seat.open(self)
        else:
            seat.take_over(self, resume.seq, identity.claims)
        logins[OK] += 1
        self._stop_waiting()
        if self._gate.draining and self.seat is not None:
            self.seat.drain()
        return True

    def _asked_back(self, identity: Identity, resume: Resume) -> Seat | None:
        """The seat that a client may have back, whole; None for a new one.

        What is wrong it is not told, so that nobody learns here which sessions exist or how good a key is.
        """
        seat = self._gate.sessions.get(resume.session)
        if seat is None or not (identity.user == seat.user or identity.assigned):
            return None
        admission = seat.session.admit(resume)
        if admission is Admission.STRANGER:
            return None
        if admission is Admission.USED_TWICE:
            seat.log.warning("a session's key was used twice: the session ends", peer=self.link.peer)
            self._gate.tell_watchdogs("warning", seat.session.id, "the key was used twice")
            seat.end(CloseCode.FORBIDDEN, "the session's key was used twice", KEY_REUSED)
            return None
        # What is kept for it is encoded already, and its agents were told the encoding.
        alike = self.link.codec is seat.session.codec and self.link.kind == seat.kind
        if admission is Admission.WELCOME and alike:
            return seat
        seat.end(CloseCode.REPLACED, "a newer connection started over")
        return None

    def _hello_late(self) -> None:
        # Loops round timers, so this may be a hair before the deadline, and no other timer follows.
        now = self._gate.clock.now()
        close = self._greeting.expire(self._greeting.deadline(now) or now)
        if close is not None:
            self._close(close)

    def _stop_waiting(self) -> None:
        """The client was let in or is gone: nothing of the greeting goes on."""
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None
        self._authenticating = None

    def _close(self, close: Close) -> None:
        self.link.close(close.code, close.reason, close.frame)

    def replaced(self, reason: str) -> None:
        """The seat has gone on to another connection."""
        self.seat = None
        self._close(self._greeting.close(CloseCode.REPLACED, reason))

    def end(self, code: CloseCode, reason: str) -> None:
        """Close from the server's side, and end the session, if there is one."""
        if self.seat is None:
            self._close(self._greeting.close(code, reason))
        else:
            self.seat.end(code, reason)

    def closed(self, code: int, reason: str) -> None:
        """`Receiver.closed`: the transport is gone."""
        if self._authenticating is not None:  # an authenticator that hangs must not outlive its client
            self._authenticating.cancel()
        self._stop_waiting()
        self._greeting.lost()
        self._gate.connections.discard(self)
        tally = self._gate.tally
        tally.left[self.link.kind] += 1
        tally.closed[close_label(code)] += 1
        seat, self.seat = self.seat, None
        if seat is None:
            self.log.debug("connection closed without a session", code=code, reason=reason)
        else:
            seat.left(code, reason)
