"""What an operator can set, with units, defaults and bounds.

    command line  >  environment SKYLOOM_...  >  TOML file  >  defaults

`Settings()` holds the defaults and reads nothing, so a test gets the same settings on every machine.
`Settings.load()` reads all four sources; the first one that names a setting wins. A name that no setting has
is refused in every source, because a misspelt limit that is silently ignored is a limit that is not there.

The TOML file has one table for each section::

    node = "game-1"
    database = "postgresql://skyloom@db/skyloom"

    [gateway]
    port = 8000
    tcp_port = "off"

and the environment joins section and name by two underscores: ``SKYLOOM_GATEWAY__PORT=8000``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from skyloom_gateway.auth.settings import JwtSettings, TicketSettings
from skyloom_gateway.settings_values import (
    Authenticators,
    Networks,
    OptionalPath,
    OptionalPort,
    Origins,
    Port,
    Section,
    off,
)

ENVIRONMENT_PREFIX = "SKYLOOM_"
ENVIRONMENT_DELIMITER = "__"
CONFIG_FILE = "skyloom.toml"

NODE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
CLUSTER_NAME = r"^[A-Za-z0-9_-]{1,32}$"
PATTERNS = {
    NODE_NAME: "of 1 to 63 letters, digits, _, . and -, beginning with a letter or digit",
    CLUSTER_NAME: "of 1 to 32 letters, digits, _ and -",
}
"""Each pattern of a setting in words."""

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
DAY_SECONDS = 86_400.0


class GatewaySettings(Section):
    """Where the gateway listens, and every limit that it holds its clients to. Times are seconds, sizes
    bytes.
    """

    host: Annotated[str, Field(min_length=1, max_length=255, description="address or host name to listen on")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Field(description="WebSocket and HTTP port; 0 lets the system pick one")] = 8000
    tcp_port: Annotated[
        OptionalPort, Field(description="port of the TCP listener; 0 lets the system pick one; off: none")
    ] = 8001
    reuse_port: Annotated[
        bool,
        Field(
            description="listen beside another gateway on the same ports that does so too, such as the one to replace"
        ),
    ] = False
    authenticators: Annotated[
        Authenticators,
        Field(
            description="who may come in, separated by commas: guest (anybody), ticket (see [ticket]), "
            "jwt (see [jwt]), or module:object for one of your own"
        ),
    ] = ("guest",)
    allow_guests: Annotated[
        bool, Field(description="let guests in from other machines too, and not from this one only")
    ] = False
    origins: Annotated[
        Origins,
        Field(
            description="origins of the web pages that may connect, separated by commas; off: none, or those of this "
            "machine while listening on loopback"
        ),
    ] = None
    trusted_proxies: Annotated[
        Networks,
        Field(
            description="networks of the proxies that are believed when they say who a client is, separated by commas"
        ),
    ] = ()
    forwarded_header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Field(description="the header in which trusted proxies say it; the other one is never looked at"),
    ] = "x-forwarded-for"
    proxy_protocol: Annotated[
        Literal["off", "tcp", "websocket", "both"],
        Field(description="ports on which trusted proxies begin each connection with a PROXY header, version 1 or 2"),
    ] = "off"
    tls_certificate: Annotated[OptionalPath, Field(description="PEM file with the certificate chain")] = None
    tls_key: Annotated[OptionalPath, Field(description="PEM file with the certificate's private key")] = None

    frame_bytes: Annotated[
        int,
        Field(
            ge=1 * KIBIBYTE,
            le=16 * MEBIBYTE,
            description="longest frame accepted from a client (TCP cannot carry more than 65,535)",
        ),
    ] = 64 * KIBIBYTE
    hello_bytes: Annotated[
        int,
        Field(ge=256, le=64 * KIBIBYTE, description="longest first frame of a client not yet authenticated"),
    ] = 4 * KIBIBYTE
    messages_per_second: Annotated[
        float, Field(gt=0, le=1_000_000, description="messages a session may send, sustained")
    ] = 50.0
    messages_burst: Annotated[int, Field(ge=1, le=1_000_000, description="messages a session may send at once")] = 100
    rate_refusals: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="messages refused in a row for their rate before the session is closed",
        ),
    ] = 100
    requests_in_flight: Annotated[
        int, Field(ge=1, le=65_536, description="requests of one session that wait for their answers")
    ] = 128
    unsent_messages: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="messages waiting for a client that reads too slowly before it is closed",
        ),
    ] = 256
    unsent_bytes: Annotated[
        int,
        Field(
            ge=4 * KIBIBYTE,
            le=1024 * MEBIBYTE,
            description="bytes waiting for a client that reads too slowly before it is closed",
        ),
    ] = 256 * KIBIBYTE
    unsent_bytes_total: Annotated[
        int,
        Field(
            ge=4 * KIBIBYTE,
            le=1024 * 1024 * MEBIBYTE,
            description="bytes waiting for all clients together; past it those for whom the most waits are closed",
        ),
    ] = 64 * MEBIBYTE
    replay_pushes: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="pushes kept for a client that lost its connection and comes back"),
    ] = 256
    replay_bytes: Annotated[
        int, Field(ge=1 * KIBIBYTE, le=1024 * MEBIBYTE, description="bytes of pushes kept for such a client")
    ] = 128 * KIBIBYTE
    answers: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="answers of a session kept, for requests that its client repeats"),
    ] = 256
    answers_bytes: Annotated[
        int, Field(ge=1 * KIBIBYTE, le=1024 * MEBIBYTE, description="bytes of answers of a session kept")
    ] = 128 * KIBIBYTE
    suspended_sessions: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="sessions in all that wait for their clients; the one that has waited longest ends first",
        ),
    ] = 10_000
    suspended_bytes: Annotated[
        int,
        Field(
            ge=1 * KIBIBYTE,
            le=1024 * 1024 * MEBIBYTE,
            description="bytes of pushes and answers in all, kept by sessions that wait for their clients",
        ),
    ] = 256 * MEBIBYTE
    connections: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="connections in all; the open-file limit of the process lowers it"),
    ] = 10_000
    connects_per_second: Annotated[
        float,
        Field(gt=0, le=1_000_000, description="connections accepted, sustained; more wait, and are not refused"),
    ] = 1000.0
    connects_burst: Annotated[int, Field(ge=1, le=1_000_000, description="connections accepted at once")] = 1000
    connections_per_address: Annotated[
        int, Field(ge=1, le=1_000_000, description="connections from one network address")
    ] = 100
    connects_per_second_per_address: Annotated[
        float,
        Field(gt=0, le=1_000_000, description="connections that one network address may open, sustained"),
    ] = 20.0
    connects_burst_per_address: Annotated[
        int, Field(ge=1, le=1_000_000, description="connections that one network address may open at once")
    ] = 200
    sessions_per_user: Annotated[
        int, Field(ge=1, le=1_000_000, description="sessions of one user, those that wait for their client among them")
    ] = 20
    messages_per_second_per_user: Annotated[
        float, Field(gt=0, le=1_000_000, description="messages that all sessions of a user may send, sustained")
    ] = 200.0
    messages_burst_per_user: Annotated[
        int, Field(ge=8, le=1_000_000, description="messages that all sessions of a user may send at once")
    ] = 400
    messages_per_second_per_address: Annotated[
        float, Field(gt=0, le=1_000_000, description="messages that one network address may send, sustained")
    ] = 1000.0
    messages_burst_per_address: Annotated[
        int, Field(ge=8, le=1_000_000, description="messages that one network address may send at once")
    ] = 2000
    logins: Annotated[
        int, Field(ge=1, le=1_000_000, description="clients that are authenticated at once; more wait for their turn")
    ] = 64
    logins_per_address: Annotated[
        int, Field(ge=1, le=1_000_000, description="clients of one network address authenticated or waiting for it")
    ] = 16
    denials_per_minute_per_address: Annotated[
        int, Field(ge=1, le=1_000_000, description="denied logins of one network address before it has to wait")
    ] = 60
    loopback_exempt: Annotated[
        bool, Field(description="leave clients on this machine out of the limits of an address")
    ] = True

    open_timeout_seconds: Annotated[
        float, Field(gt=0, le=DAY_SECONDS, description="time to finish the TLS and WebSocket handshakes")
    ] = 5.0
    hello_timeout_seconds: Annotated[
        float, Field(gt=0, le=DAY_SECONDS, description="time from the open connection to the client's hello")
    ] = 5.0
    close_timeout_seconds: Annotated[
        float,
        Field(gt=0, le=DAY_SECONDS, description="time for the closing handshake before the socket is cut"),
    ] = 5.0
    heartbeat_seconds: Annotated[
        float,
        Field(gt=0, le=DAY_SECONDS, description="silence after which a client is pinged; as much again ends it"),
    ] = 20.0
    stall_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=DAY_SECONDS,
            description="time that a client may leave waiting output untouched before it is cut",
        ),
    ] = 8.0
    resume_seconds: Annotated[
        float,
        Field(gt=0, le=DAY_SECONDS, description="time that a session waits for a client that lost its connection"),
    ] = 60.0
    request_timeout_seconds: Annotated[
        float, Field(gt=0, le=DAY_SECONDS, description="time for an agent to answer a request")
    ] = 5.0
    drain_seconds: Annotated[
        float, Field(ge=0, le=DAY_SECONDS, description="time at shutdown for requests in flight to finish")
    ] = 10.0
    drain_reconnect_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=DAY_SECONDS,
            description="at shutdown clients are told to come back at a random time up to this",
        ),
    ] = 5.0

    admin_port: Annotated[
        OptionalPort,
        Field(
            description="port of metrics and console, on 127.0.0.1 alone, where every user of this machine reaches it; "
            "0 lets the system pick one; off: none"
        ),
    ] = None
    admin_connections: Annotated[int, Field(ge=1, le=10_000, description="connections to the admin port at once")] = 16
    admin_connects_per_second: Annotated[
        float, Field(gt=0, le=10_000, description="connections to the admin port, sustained; twice as many at once")
    ] = 20.0

    playground: Annotated[
        bool,
        Field(description="serve /play/, a page that sends any request by hand; it can do what any client can"),
    ] = True

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise PydanticCustomError("tls_pair", "tls_certificate and tls_key go together: set both or none")
        if self.port and self.port == self.tcp_port:
            raise PydanticCustomError("ports", "port and tcp_port are the same: give each its own")
        if self.admin_port and self.admin_port in (self.port, self.tcp_port):
            raise PydanticCustomError("ports", "admin_port is that of another listener: give each its own")
        if self.proxy_protocol != "off" and not self.trusted_proxies:
            raise PydanticCustomError(
                "proxies", "proxy_protocol is on, and trusted_proxies names nobody: name the proxies"
            )
        if self.hello_bytes > self.frame_bytes:
            raise PydanticCustomError("sizes", "hello_bytes is above frame_bytes: lower it or raise frame_bytes")
        if self.unsent_bytes < self.frame_bytes:
            raise PydanticCustomError("sizes", "unsent_bytes is below frame_bytes: raise it or lower frame_bytes")
        if self.unsent_bytes_total < self.unsent_bytes:
            raise PydanticCustomError(
                "sizes", "unsent_bytes_total is below unsent_bytes: raise it or lower unsent_bytes"
            )
        if self.replay_pushes > self.unsent_messages:
            raise PydanticCustomError("sizes", "replay_pushes is above unsent_messages: a client gets them all at once")
        if self.replay_bytes > self.unsent_bytes:
            raise PydanticCustomError("sizes", "replay_bytes is above unsent_bytes: a client gets them all at once")
        return self


class ClusterSettings(Section):
    """How this process finds the others."""

    nats: Annotated[
        str | None,
        BeforeValidator(off),
        Field(
            min_length=1,
            max_length=4096,
            description="nats://HOST:4222, several separated by commas: join the nodes there; off: there is this "
            "process alone",
        ),
    ] = None
    name: Annotated[
        str, Field(pattern=CLUSTER_NAME, description="nodes of the same NATS server see those of the same name")
    ] = "skyloom"
    services: Annotated[
        bool,
        Field(description="run the apps' services here when no other node of the cluster does; false: never here"),
    ] = True


class LogSettings(Section):
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="least severity that is logged")
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Field(description="console for people, json for machines; auto takes console on a terminal"),
    ] = "auto"
    value_chars: Annotated[
        int, Field(ge=64, le=1_000_000, description="longest text value of a log line; the rest is cut off")
    ] = 512
    repeats_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="lines of the same event in a second; more are only counted"),
    ] = 50


class Settings(BaseSettings):
    """All settings. `Settings()` gives the defaults; `Settings.load()` reads every source."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
        extra="forbid",
        frozen=True,
        validate_default=False,
    )

    node: Annotated[
        str,
        Field(
            pattern=NODE_NAME,
            description="name of this node, different for each node of a cluster, where one that is not set is made up",
        ),
    ] = "node-1"
    database: Annotated[
        str,
        Field(
            min_length=1,
            max_length=4096,
            description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
        ),
    ] = "sqlite:///skyloom.db"
    seed: Annotated[
        Annotated[int, Field(ge=0, le=2**63 - 1)] | None,
        BeforeValidator(off),
        Field(description="seed of the random source, to repeat a run; off takes one from the system"),
    ] = None
    cluster: ClusterSettings = ClusterSettings()
    gateway: GatewaySettings = GatewaySettings()
    ticket: TicketSettings = TicketSettings()
    jwt: JwtSettings = JwtSettings()
    log: LogSettings = LogSettings()

    _given_in: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: `load` reads the other sources itself, to know where each value came
        from.
        """
        return (init_settings,)

    @classmethod
    def load(
        cls,
        command_line: Mapping[str, object] | None = None,
        config: Path | str | None = None,
        named: Mapping[str, object] | None = None,
    ) -> Settings:
        """Read the settings from all sources.

        Args:
            command_line: values by setting name, nested by section: ``{"gateway": {"port": 0}}``. A value of
                None counts as not given.
            named: values of ``--set``, nested in the same way; what is in both is refused.
            config: TOML file to read instead of ``skyloom.toml`` of the working directory; it has to exist.

        Raises:
            SettingsError: with everything that is wrong, not only the first.
        """
        from skyloom_gateway.settings_load import load

        return load(command_line or {}, config, named or {})

    def origin(self, name: str) -> str:
        """Where the value of the setting `name` (as "gateway.port") came from; "default" if nobody set it."""
        return self._given_in.get(name, "default")


class SettingsError(Exception):
    """One or more settings are wrong. The text is a list for people; `problems` has its lines.

    Args:
        problems: one line for each, saying which setting, what was given, where, and what to do.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["the settings are not usable:", *(f"  - {line}" for line in problems)]))
        self.problems = problems
