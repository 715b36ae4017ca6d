"""The settings of a listener: every limit by name, with its unit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

FRAME_BYTES_MAX_LEAST = 125


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """How a listener listens and where it draws its lines. Limits are per connection, unless they say more.

    Attributes:
        host: address or name to bind.
        port: TCP port, 0 to let the system pick one.
        reuse_port: listen beside other processes that do so too; the system spreads connections over them.
        path: where WebSocket clients connect; all other paths are pages.
        certificate_file, key_file: PEM files; given together they turn on TLS 1.2 or newer.
        origins: values of the Origin header that browsers may connect from. None means the origins of this
            machine when listening on loopback only, and none elsewhere. Clients that are not browsers send none.
        trusted_proxies: networks of the proxies that are believed when they say who a client is.
        forwarded_header: where they say it in an HTTP request: "x-forwarded-for" or "forwarded".
        proxy_protocol: whether each of their connections begins with a PROXY header.
        frame_bytes_max: longest message from a client (on TCP never more than 65,535).
        fragments_max: most WebSocket fragments in a message.
        handshake_bytes_max: longest HTTP request head.
        open_timeout_seconds: from the connection to the end of the HTTP request.
        page_timeout_seconds: from the HTTP request until its answer has been taken.
        keepalive_seconds: silence after which the server pings.
        keepalive_timeout_seconds: further silence after the ping that ends the connection.
        stall_seconds: how long a client may take nothing of the output that waits for it.
        close_timeout_seconds: how long a closing client may take before it is cut off.
        output_messages_max, output_bytes_max: output that may wait for a client, in messages and in bytes.
        output_bytes_total_max: output that may wait for all clients together; past it those for whom the most waits are
            cut off.
        control_frames_per_second_max: WebSocket pings and pongs accepted in any one second.
        connections_max: connections in all; also held 256 below the process's limit of open files.
        connections_per_address_max: connections of one IPv4 address or IPv6 /64 network.
        accepts_per_second_max, accepts_burst_max: connections taken from the kernel in the long run and at once, of all
            addresses; the rest waits there, so that those who are in have their turns.
        connects_per_second_max, connects_burst_max: connections that one such network may open in the long run and
            at once.
        connections_refused_max: connections over a limit that are kept for a moment, to be told why.
        loopback_is_limited: whether the limits per address hold for loopback too (not behind a local proxy).
        backlog_connections: connections that the kernel queues before they are accepted.
        socket_send_bytes: the kernel's send buffer: what an unread connection costs outside the process.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    reuse_port: bool = False
    path: str = "/ws"
    certificate_file: Path | None = None
    key_file: Path | None = None
    origins: tuple[str, ...] | None = None
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: str = "x-forwarded-for"
    proxy_protocol: bool = False
    frame_bytes_max: int = 64 * 1024
    fragments_max: int = 4096
    handshake_bytes_max: int = 16 * 1024
    open_timeout_seconds: float = 5.0
    page_timeout_seconds: float = 30.0
    keepalive_seconds: float = 20.0
    keepalive_timeout_seconds: float = 20.0
    stall_seconds: float = 8.0
    close_timeout_seconds: float = 5.0
    output_messages_max: int = 256
    output_bytes_max: int = 256 * 1024
    output_bytes_total_max: int = 64 * 1024 * 1024
    control_frames_per_second_max: int = 100
    connections_max: int = 10_000
    connections_per_address_max: int = 100
    accepts_per_second_max: float = 1000.0
    accepts_burst_max: int = 1000
    connects_per_second_max: float = 20.0
    connects_burst_max: int = 200
    connections_refused_max: int = 64
    loopback_is_limited: bool = False
    backlog_connections: int = 1024
    socket_send_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        """Check that every limit can hold.

        Raises:
            ValueError: names the setting and what it takes.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            is_limit = field.name.endswith(("_max", "_seconds", "_bytes", "_connections"))
            if is_limit and not value > 0:
                raise ValueError(f"{field.name} is {value}, but must be more than 0")
        if self.frame_bytes_max < FRAME_BYTES_MAX_LEAST:
            # websockets holds control frames to the same limit, and they may have 125 bytes.
            raise ValueError(f"frame_bytes_max is {self.frame_bytes_max}, but must be at least 125")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}, but must be from 0 (any free one) to 65535")
        if not self.path.startswith("/"):
            raise ValueError(f"path is {self.path!r}, but must begin with '/'")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file must be given together, or neither of them")
