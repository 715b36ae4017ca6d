"""A gateway server: a node with its apps' services, the gate, the listeners and the pages."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
from importlib.resources import files
from typing import TYPE_CHECKING

import structlog

from skyloom.supervision.child import permanent
from skyloom.supervision.supervisor import Supervisor
from skyloom_gateway.auth import setup
from skyloom_gateway.contract import contract_of, document_bytes
from skyloom_gateway.gate import Gate
from skyloom_gateway.index import index_page
from skyloom_gateway.listener import Connections, ListenerSettings, Pages, TcpListener, WebSocketListener
from skyloom_gateway.listener.port import is_loopback
from skyloom_gateway.listener.tls import server_context
from skyloom_gateway.placement import make_node, refuse_conflicts, start_services

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from skyloom import Node
    from skyloom_gateway.app import App
    from skyloom_gateway.auth import Authenticator
    from skyloom_gateway.listener import LinkKind, Timers
    from skyloom_gateway.settings import Settings

log = structlog.get_logger("skyloom.server")


class _NodeTimers:
    """The node's clock, as listeners want it."""

    def __init__(self, node: Node) -> None:
        self._clock = node.clock
        self.now = node.clock.now

    def call_later(self, seconds: float, callback, /, *args: object):  # type: ignore[no-untyped-def]  # see Timers
        return self._clock.call_at(self.now() + seconds, callback, *args)


class Server:
    """Serves apps on one WebSocket and HTTP port and, unless it is off, one TCP port::

        async with Server([chat], Settings()) as server:
            print(server.url)

    Args:
        apps: what to serve.
        settings: see `Settings`; its `seed` makes the node's chance repeatable, session ids and keys included.
        authenticators: who may come in; what `settings` say when None.

    Raises:
        AppError: two services have the same name.
        AuthError: an authenticator cannot be made, or guests could come in from other machines.
    """

    def __init__(
        self, apps: Sequence[App], settings: Settings, authenticators: Sequence[Authenticator] | None = None
    ) -> None:
        names = [app.name for app in apps]
        if len(set(names)) != len(names):
            raise ValueError(f"apps: two have the same name among {', '.join(names)}")
        refuse_conflicts(apps, settings)
        self.apps = tuple(apps)
        self.contract = contract_of(apps)
        self.settings = settings
        rng = random.Random(settings.seed) if settings.seed is not None else random.SystemRandom()
        if authenticators is None:
            authenticators = setup.authenticators(settings, rng, self._time)
        gateway = settings.gateway
        setup.refuse_open_door(
            authenticators, gateway.host, is_loopback=is_loopback(gateway.host), allowed=gateway.allow_guests
        )
        self.authenticators = authenticators
        self.node = make_node(settings, rng)
        self.ready = False
        self.host = gateway.host
        self.port = 0
        self.tcp_port: int | None = None
        self.admin_port: int | None = None
        self._seeded = settings.seed is not None
        self._listeners: list[WebSocketListener | TcpListener] = []
        self._admin: WebSocketListener | None = None
        self.gate: Gate

    def _time(self) -> float:
        """Seconds since 1970, once the node runs."""
        return self.node.clock.time()

    @property
    def url(self) -> str:
        """Where its index page is."""
        scheme = "https" if self.settings.gateway.tls_certificate else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def admin_url(self) -> str | None:
        """Where metrics are, if they are anywhere."""
        return None if self.admin_port is None else f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> None:
        """Start the services, then listen. Raises OSError for an address in use, and what services raise."""
        await self.node.start()
        try:
            await self._start_services()
            await self._listen()
        except BaseException:
            await self._stop_all()
            raise
        self.node.watch_loop()  # only now: imports and migrations at the start take their time
        self.ready = True
        if self.settings.gateway.origins is None and not is_loopback(self.settings.gateway.host):
            log.warning("no web page may connect: name its origin in gateway.origins")
        for authenticator in self.authenticators:
            if authenticator.development:
                log.warning("clients come in unproven: for development only", scheme=authenticator.scheme)

    async def _start_services(self) -> None:
        """Start the apps' services, or stand by where others run them; then the gate, and the console."""
        node = self.node
        await start_services(node, self.apps, self.settings)
        gate = permanent(
            Gate,
            self.apps,
            self.authenticators,
            self.settings.gateway,
            self.contract.hash,
            self._secret,
        )
        # Its connections cannot be handed to a new one, so that its end is the server's.
        await node.spawn(Supervisor, gate, restarts_max=0)
        service = node.cells[await node.query("GATE")].service
        assert isinstance(service, Gate)
        self.gate = service
        if self.settings.gateway.admin_port is not None:
            from skyloom_gateway.admin.console import Console  # as all of the admin port, only when it is on

            await node.spawn(Supervisor, permanent(Console))

    def _secret(self, size: int) -> str:
        if self._seeded:  # a run that is to repeat, by the operator's own choice
            return self.node.random.randbytes(size).hex()
        return secrets.token_urlsafe(size)

    async def _listen(self) -> None:
        gateway = self.settings.gateway
        settings = _listener_settings(self.settings, gateway.port, "websocket")
        connections = Connections.within(settings)
        timers: Timers = _NodeTimers(self.node)
        if gateway.tcp_port is not None:  # first, as the index page names its port
            tcp_settings = _listener_settings(self.settings, gateway.tcp_port, "tcp")
            tcp = TcpListener(self.gate.accept, tcp_settings, timers, connections)
            _, self.tcp_port = await tcp.start()
            self._listeners.append(tcp)
        websocket = WebSocketListener(self.gate.accept, self._pages(), settings, timers, connections)
        self.host, self.port = await websocket.start()
        self._listeners.append(websocket)
        if gateway.admin_port is not None:
            await self._listen_to_admins(gateway.admin_port, connections, timers)

    async def _listen_to_admins(self, port: int, connections: Connections, timers: Timers) -> None:
        from skyloom_gateway.admin.line import Line
        from skyloom_gateway.admin.listener import AdminListener, admin_settings
        from skyloom_gateway.admin.metrics import Metrics

        pages = Pages()
        pages.add_dynamic("/metrics", Metrics(self.node, self.gate, connections, lambda: self.ready).page)
        root = self.node.root
        admin = AdminListener(lambda link: Line(root, link), pages, admin_settings(self.settings.gateway, port), timers)
        try:
            _, self.admin_port = await admin.start()
        except OSError as error:  # the operator may not know that there is a third port
            raise OSError(error.errno, f"gateway.admin_port: {error.strerror}") from None
        self._admin = admin

    def _pages(self) -> Pages:
        pages = Pages()
        static = files("skyloom_gateway").joinpath("static")
        for name in ("skyloom.js", "skyloom.d.ts", "index.css"):
            pages.add(f"/{name}", static.joinpath(name).read_bytes())
        pages.add_directory("/skyloom", static.joinpath("skyloom"))  # what all pages share
        pages.add("/asyncapi.json", document_bytes(self.contract))
        for app in self.apps:
            folder = app.page_folder()
            if folder is not None:
                pages.add_directory(f"/{app.name}/", folder)
        playground = self.settings.gateway.playground
        if playground:
            pages.add_directory("/play", static.joinpath("play"))
        index = index_page(self.apps, tcp_port=self.tcp_port, playground=playground)
        pages.add("/", index, "text/html; charset=utf-8")
        pages.add_dynamic("/healthz", lambda: (200, "text/plain; charset=utf-8", b"ok\n"))
        pages.add_dynamic("/readyz", self._ready_page)
        return pages

    def _ready_page(self) -> tuple[int, str, bytes]:
        text = b"ready\n" if self.ready else b"not ready\n"
        return (200 if self.ready else 503), "text/plain; charset=utf-8", text

    def reload_certificate(self) -> None:
        """Read the TLS files again; when they cannot be used, say so in the log and go on with what there is."""
        try:
            for listener in self._listeners:
                listener.reload_certificate()
        except ValueError as error:
            log.error("the certificate was not exchanged", error=str(error))
        else:
            log.info("the certificate was read again")

    def check(self) -> None:
        """Look for what would keep it from starting, as far as can be seen without starting it.

        Raises:
            AppError: an app's folder of pages is not there, or a service says by `on_check` that it could not start.
            ValueError: the TLS files cannot be used.
        """
        for app in self.apps:
            app.page_folder()
            app.check(self.node.env)
        gateway = self.settings.gateway
        if gateway.tls_certificate is not None and gateway.tls_key is not None:
            server_context(gateway.tls_certificate, gateway.tls_key)

    def started(self) -> None:
        """From now on SIGHUP has the certificate read again; without one it ends the server, as usual."""
        if self.settings.gateway.tls_certificate is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload_certificate)

    async def failed(self) -> str:
        """Wait until the server cannot go on, for example because a service crashes again and again; says why."""
        return await self.node.failed()

    async def stop(self) -> None:
        """Drain and stop: not ready, no new connections, requests in flight finish, clients close with 1012."""
        log.info("stopping: clients are asked to come back", seconds_at_most=self.settings.gateway.drain_seconds)
        self.ready = False
        for listener in self._listeners:
            listener.stop_accepting()
        await self.gate.drain()
        await self._stop_all()

    async def _stop_all(self) -> None:
        for listener in self._listeners:
            await listener.close(1012, "the server restarts")
        self._listeners.clear()
        if self._admin is not None:  # the last, so that one can look on
            await self._admin.close(1012, "the server restarts")
            self._admin = None
        await self.node.stop()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


def _listener_settings(settings: Settings, port: int, kind: LinkKind) -> ListenerSettings:
    gateway = settings.gateway
    return ListenerSettings(
        host=gateway.host,
        port=port,
        reuse_port=gateway.reuse_port,
        certificate_file=gateway.tls_certificate,
        key_file=gateway.tls_key,
        origins=gateway.origins,
        trusted_proxies=gateway.trusted_proxies,
        forwarded_header=gateway.forwarded_header,
        proxy_protocol=gateway.proxy_protocol in (kind, "both"),
        frame_bytes_max=gateway.frame_bytes,
        open_timeout_seconds=gateway.open_timeout_seconds,
        keepalive_seconds=gateway.heartbeat_seconds,
        keepalive_timeout_seconds=gateway.heartbeat_seconds,
        stall_seconds=gateway.stall_seconds,
        close_timeout_seconds=gateway.close_timeout_seconds,
        output_messages_max=gateway.unsent_messages,
        output_bytes_max=gateway.unsent_bytes,
        output_bytes_total_max=gateway.unsent_bytes_total,
        connections_max=gateway.connections,
        connections_per_address_max=gateway.connections_per_address,
        accepts_per_second_max=gateway.connects_per_second,
        accepts_burst_max=gateway.connects_burst,
        connects_per_second_max=gateway.connects_per_second_per_address,
        connects_burst_max=gateway.connects_burst_per_address,
        loopback_is_limited=not gateway.loopback_exempt,
    )
