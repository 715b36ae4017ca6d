"""The gate: the service that stands between connections and agents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from skyloom import CallError, Service, rpc
from skyloom.node.pending import Pending
from skyloom_gateway.connection import Connection
from skyloom_gateway.quotas import Quotas
from skyloom_gateway.session.limits import SessionLimits
from skyloom_gateway.tally import OTHER, Tally
from skyloom_gateway.wire import CODECS, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyloom import Address
    from skyloom_gateway.app import App
    from skyloom_gateway.auth import Authenticator
    from skyloom_gateway.listener import Link
    from skyloom_gateway.seat import Seat
    from skyloom_gateway.settings import GatewaySettings

AGENT_END_SECONDS: Final = 10.0
"""How long an agent may take to end with its session before it is killed."""

_CODECS: Final = {codec.name: codec for codec in CODECS.values()}

log = structlog.get_logger("skyloom.gate")


class Gate(Service):
    """Turns connections into messages: CLIENT to the agents, SOCKET to the apps' watchdogs.

    `accept` is what the listeners call. Other services send it CLIENT messages (route, body as json or None, body as
    msgpack or None, session ids), which it turns into pushes.
    """

    name = "GATE"
    mailbox_messages_max = 100_000
    mailbox_bytes_max = 64 * 1024 * 1024

    def __init__(
        self,
        apps: Sequence[App],
        authenticators: Sequence[Authenticator],
        settings: GatewaySettings,
        contract: str,
        new_secret: Callable[[int], str],
    ) -> None:
        self.settings = settings
        self._request_seconds = settings.request_timeout_seconds
        self.authenticators = authenticators
        self.contract = contract
        self.new_secret = new_secret
        self.apps_by_route = {route: app for app in apps for route in app.routes}
        routes = [route for app in apps for route in app.routes.values()]
        self.tally = Tally(
            [route.name for route in routes if route.is_request],
            [route.name for route in routes if not route.is_request],
            [push.route for app in apps for push in app.pushes],
        )
        self.limits = SessionLimits(
            hello_timeout_seconds=settings.hello_timeout_seconds,
            hello_bytes_max=settings.hello_bytes,
            frame_bytes_max=settings.frame_bytes,
            messages_per_second=settings.messages_per_second,
            messages_burst=settings.messages_burst,
            refusals_max=settings.rate_refusals,
            requests_in_flight_max=settings.requests_in_flight,
            resume_seconds=settings.resume_seconds,
            replay_pushes_max=settings.replay_pushes,
            replay_bytes_max=settings.replay_bytes,
            answers_max=settings.answers,
            answers_bytes_max=settings.answers_bytes,
        )
        self.quotas = Quotas(settings, authenticators)
        self.connections: set[Connection] = set()
        self.sessions: dict[str, Seat] = {}
        # Those whose clients are away, the longest first, and what they keep for them.
        self.suspended: dict[str, Seat] = {}
        self.suspended_bytes = 0
        self.draining = False
        self._watchdogs = [app.watchdog for app in apps if app.watchdog is not None]
        self._watchdog_addresses: list[Address] = []
        self._agents: dict[Address, tuple[Seat, str]] = {}
        self._accepted = 0
        self._idle: asyncio.Event | None = None

    async def on_start(self) -> None:
        self.dispatch("client", self._on_client)
        self._watchdog_addresses = [await self.spawn(watchdog) for watchdog in self._watchdogs]

    def accept(self, link: Link) -> Connection:
        """The listeners' `Acceptor`."""
        self._accepted += 1
        self.tally.opened[link.kind] += 1
        connection = Connection(self, link, self._accepted)
        self.connections.add(connection)
        return connection

    def limit_suspended(self) -> None:
        """End the sessions that have waited longest for their clients, while there is too much of them."""
        settings = self.settings
        while len(self.suspended) > settings.suspended_sessions or self.suspended_bytes > settings.suspended_bytes:
            is_many = len(self.suspended) > settings.suspended_sessions
            self.tally.limits["suspended_sessions" if is_many else "suspended_bytes"] += 1
            oldest = next(iter(self.suspended.values()))
            oldest.give_up(CloseCode.OVERLOADED, "too much waits for clients that are away")

    # -- messages --------------------------------------------------------------------------------------------

    def ask(
        self, agent: Address, frame: tuple[object, ...], settled: Callable[[Any, CallError | None], object]
    ) -> None:
        """Forward a client's frame to its agent; `settled` gets the answer or the error."""
        self._ask(agent, "client", frame, self._request_seconds, settled)

    def _ask(
        self,
        agent: Address,
        ptype: str,
        args: tuple[object, ...],
        timeout: float,
        settled: Callable[[Any, CallError | None], object],
    ) -> None:
        try:
            answer = self._cell.ask(agent, ptype, args, timeout)
        except CallError as error:
            settled(None, error)
        else:
            if type(answer) is Pending:
                answer.hand_to(settled)
            else:
                settled(answer, None)

    async def _on_client(
        self,
        session: int,
        source: Address,
        route: str,
        as_json: bytes | None,
        as_msgpack: bytes | None,
        sessions: tuple[str, ...],
    ) -> None:
        """Push to the named sessions; the shared part of the frame is made once for each encoding."""
        tails = {
            name: _CODECS[name].push_tail(route, body)
            for name, body in (("json", as_json), ("msgpack", as_msgpack))
            if body is not None
        }
        gone = 0
        for session_id in sessions:
            seat = self.sessions.get(session_id)
            if seat is not None:
                seat.push(tails[seat.session.codec.name])
            else:
                gone += 1
        pushes = self.tally.pushes
        pushes[route if route in pushes else OTHER] += len(sessions) - gone

    @rpc
    async def end_session(self, session: str, reason: str) -> bool:
        """End a client's session, with close code 4403; False when it has ended already.

        `reason` is told to the client, in at most 123 bytes of UTF-8.
        """
        seat = self.sessions.get(session)
        if seat is not None:
            seat.end(CloseCode.FORBIDDEN, reason)
        return seat is not None

    @rpc
    async def end_user(self, user: str, reason: str) -> int:
        """End all sessions of a user, as `end_session` does; how many there were."""
        seats = [seat for seat in self.sessions.values() if seat.user == user]
        for seat in seats:
            seat.end(CloseCode.FORBIDDEN, reason)
        return len(seats)

    @rpc
    async def sessions_of(self, user: str) -> list[dict[str, object]]:
        """What a console shows of a user's sessions."""
        return [seat.status() for seat in self.sessions.values() if seat.user == user]

    async def on_info(self) -> dict[str, object]:
        """Connections and sessions in numbers."""
        kinds = self.tally.opened - self.tally.left
        return {
            "connections_websocket": kinds["websocket"],
            "connections_tcp": kinds["tcp"],
            "sessions_connected": len(self.sessions) - len(self.suspended),
            "sessions_suspended": len(self.suspended),
            "agents": len(self._agents),
            "requests_in_flight": sum(seat.session.in_flight for seat in self.sessions.values()),
            "draining": self.draining,
        }

    def tell_watchdogs(self, event: str, *args: object) -> None:
        """Send the apps' watchdogs a SOCKET message."""
        for watchdog in self._watchdog_addresses:
            self.send(watchdog, "socket", event, *args)

    # -- agents ----------------------------------------------------------------------------------------------

    def watch_agent(self, agent: Address, seat: Seat, app: str) -> None:
        """Learn of the end of an agent that has just started."""
        self._agents[agent] = (seat, app)
        self.monitor(agent)

    async def on_down(self, address: Address, how: str) -> None:
        owner = self._agents.pop(address, None)
        if owner is not None:
            seat, app = owner
            seat.agent_ended(app)

    def end_agent(self, agent: Address, event: str) -> None:
        """Tell an agent that its session has ended; it may finish what it does, within `AGENT_END_SECONDS`."""

        def settled(_: object, error: CallError | None) -> None:
            if error is not None and self.kill(agent):
                log.warning("agent did not end by itself", agent=str(agent), error=str(error))

        self._ask(agent, "socket", (event,), AGENT_END_SECONDS, settled)

    # -- the end ---------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Ask all clients to leave, let requests in flight finish, then close what is left with 1012."""
        self.draining = True
        self._idle = asyncio.Event()
        for seat in list(self.suspended.values()):
            seat.give_up(CloseCode.RESTART, "the server restarts")  # its client could not come back to it
        for seat in list(self.sessions.values()):
            seat.drain()
        self.request_ended()
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests were still in flight at the end of the drain", seconds=self.settings.drain_seconds)
        for connection in sorted(self.connections, key=lambda connection: connection.number):  # a set has no order
            connection.end(CloseCode.RESTART, "the server restarts")

    def request_ended(self) -> None:
        """While draining: a request was answered, or a session ended."""
        if self._idle is not None and not any(seat.session.in_flight for seat in self.sessions.values()):
            self._idle.set()
