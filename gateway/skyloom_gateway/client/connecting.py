"""Opening a session: connect, say hello, be welcomed."""

import asyncio
import ssl as ssl_module
from collections.abc import Generator, Mapping
from types import TracebackType

from skyloom_gateway.client.client import (
    CLIENT_NAME,
    CONNECT_TIMEOUT_SECONDS,
    REQUEST_TIMEOUT_SECONDS,
    Client,
    Encoding,
)
from skyloom_gateway.client.conversation import Complaint, Conversation, Say
from skyloom_gateway.client.errors import ConnectFailed, HelloRefused, ProtocolViolation
from skyloom_gateway.client.transport import (
    CLOSE_TIMEOUT_SECONDS,
    Transport,
    TransportClosed,
    open_transport,
    split_url,
)
from skyloom_gateway.wire.codec import Codec
from skyloom_gateway.wire.frame import Welcome
from skyloom_gateway.wire.json import JSON
from skyloom_gateway.wire.msgpack import MSGPACK


class connect:  # noqa: N801 - used as a function, like websockets' own
    """Connect to a gateway: `async with connect(url, auth=...) as client`, or `client = await connect(url,
    auth=...)`.

    `url` is "ws://host:port/ws", "wss://...", "tcp://host:port" or "tls://host:port". `auth` is the
    hello's, such as `{"scheme": "guest", "name": "ada"}`. `encoding` is "json" (the default on WebSocket)
    or "msgpack" (the only one on TCP). `timeout`, in seconds, is the requests' default; `connect_timeout`
    bounds all of connecting. `ssl` is a context for wss and tls; without one the system's certificates
    decide.

    Raises ConnectFailed, its subclass HelloRefused, and ValueError for an address or encoding that does not
    work.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Mapping[str, object],
        encoding: Encoding | None = None,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._auth = auth
        self._codec: Codec = _codec_for(url, encoding)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ssl = ssl
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
        transport: Transport | None = None
        deadline = asyncio.timeout(self._connect_timeout)
        try:
            async with deadline:
                transport = await open_transport(self._url, self._codec, self._ssl)
                conversation = Conversation(self._codec, asyncio.get_running_loop().time())
                await greet(transport, conversation, self._auth)
        except BaseException as error:
            if transport is not None:
                transport.abort()
            if isinstance(error, TimeoutError) and deadline.expired():
                raise ConnectFailed(f"no welcome from {self._url} within {self._connect_timeout:g} s") from error
            raise
        return Client.start(transport, conversation, self._timeout)


async def greet(transport: Transport, conversation: Conversation, auth: Mapping[str, object]) -> None:
    """Say hello and wait for the welcome; raises HelloRefused, or ConnectFailed when the answer is not the
    protocol's.
    """
    loop = asyncio.get_running_loop()
    try:
        await transport.send(conversation.hello(auth, {"name": CLIENT_NAME}))
        while True:
            match conversation.receive(await transport.receive(), loop.time()):
                case Welcome():
                    return
                case Complaint(error=error):
                    raise HelloRefused(error, await _close_code(transport, conversation))
                case Say(frame=frame):
                    await transport.send(frame)
    except TransportClosed as closed:
        raise HelloRefused(conversation.complaint, closed.code, closed.reason) from closed
    except ProtocolViolation as violation:
        raise ConnectFailed(f"the gateway does not speak the protocol: {violation}") from violation


async def _close_code(transport: Transport, conversation: Conversation) -> int | None:
    """The code of the close that follows an error, None when none comes soon."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await transport.receive()
    except TransportClosed as closed:
        return conversation.lost(closed.code, closed.reason).code
    except TimeoutError:
        return None
    return None


def _codec_for(url: str, encoding: Encoding | None) -> Codec:
    """The codec for an address; raises ValueError for one that its transport does not carry."""
    if split_url(url).scheme in ("tcp", "tls"):
        if encoding == "json":
            raise ValueError(f"TCP carries msgpack only: leave out encoding, or use ws:// ({url!r})")
        return MSGPACK
    if encoding not in (None, "json", "msgpack"):
        raise ValueError(f'encoding is "json" or "msgpack", not {encoding!r}')
    return MSGPACK if encoding == "msgpack" else JSON
