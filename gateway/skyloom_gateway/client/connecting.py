"""Opening a session: connect, say hello, be welcomed."""

import random
import ssl as ssl_module
from collections.abc import Generator
from types import TracebackType
from typing import Literal

from skyloom_gateway.client.client import CONNECT_TIMEOUT_SECONDS, REQUEST_TIMEOUT_SECONDS, Client
from skyloom_gateway.client.lifeline import Auth
from skyloom_gateway.client.reconnecting import Reconnect
from skyloom_gateway.client.transport import open_transport, split_url
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.msgpack import MSGPACK

Encoding = Literal["json", "msgpack"]


class connect:  # noqa: N801 - used as a function, like websockets' own
    """Connect to a gateway: `async with connect(url, auth=...) as client`, or `client = await connect(url,
    auth=...)`.

    `url` is "ws://host:port/ws", "wss://...", "tcp://host:port" or "tls://host:port". `auth` is the
    hello's, such as `{"scheme": "guest", "name": "ada"}`. `encoding` is "json" (the default on WebSocket)
    or "msgpack" (the only one on TCP). `timeout`, in seconds, is the requests' default; `connect_timeout`
    bounds each attempt to connect. `ssl` is a context for wss and tls; without one the system's certificates
    decide. `reconnect` says how the client comes back when it loses the connection; None: not at all. `rng` gives the
    jitter of its delays. Where credentials expire or serve once, `auth` is an async function that returns new ones
    for each connection.

    Raises ConnectFailed, its subclass HelloRefused, and ValueError for an address or encoding that does not
    work.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth,
        encoding: Encoding | None = None,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        ssl: ssl_module.SSLContext | None = None,
        reconnect: Reconnect | None = Reconnect(),  # noqa: B008 - it is frozen
        rng: random.Random | None = None,
    ) -> None:
        self._url = url
        self._auth = auth
        self._codec: Codec = _codec_for(url, encoding)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ssl = ssl
        self._reconnect = reconnect
        self._rng = rng
        self._client: Client | None = None

    def __await__(self) -> Generator[object, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> Client:
        client = Client(
            lambda: open_transport(self._url, self._codec, self._ssl),
            self._codec,
            self._auth,
            address=self._url,
            timeout=self._timeout,
            connect_timeout=self._connect_timeout,
            reconnect=self._reconnect,
            rng=self._rng,
        )
        await client.open()
        return client


def _codec_for(url: str, encoding: Encoding | None) -> Codec:
    """The codec for an address; raises ValueError for one that its transport does not carry."""
    if split_url(url).scheme in ("tcp", "tls"):
        if encoding == "json":
            raise ValueError(f"TCP carries msgpack only: leave out encoding, or use ws:// ({url!r})")
        return MSGPACK
    if encoding not in (None, "json", "msgpack"):
        raise ValueError(f'encoding is "json" or "msgpack", not {encoding!r}')
    return MSGPACK if encoding == "msgpack" else JSON
