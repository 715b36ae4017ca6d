"""The interface of a codec: one of the two encodings of the client protocol."""

from collections.abc import Mapping
from typing import Protocol

from skyloom_gateway.wire.codes import WireError
from skyloom_gateway.wire.frame import ClientFrame, ServerFrame


class Codec(Protocol):
    """Turns bytes into frames and back. Stateless, and free of I/O.

    There are two, `JSON` and `MSGPACK`. The server's side decodes with `decode` and `decode_body`, the
    client's with `decode_server`. Encoders that take a `body: bytes` want it already encoded by
    `encode_body`, or any bytes that are valid in that form; they do not check it.
    """

    @property
    def name(self) -> str:
        """`json` or `msgpack`."""
        ...

    @property
    def text(self) -> bool:
        """Whether frames travel as WebSocket text messages (else binary)."""
        ...

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol that chooses this codec."""
        ...

    def decode(self, data: bytes) -> ClientFrame:
        """Read one frame from a client.

        Args:
            data: one whole frame; the caller bounds its length, and time and memory are bounded by it.

        Raises:
            Malformed: it is none, or one that only a server sends.
        """
        ...

    def decode_body(self, body: object) -> object:
        """Read the body of a request or notify, as `decode` gave it: plain data of limited depth and size.

        Raises:
            Malformed: the body is not valid or goes over a limit of `wire.bounds`.
        """
        ...

    def encode_body(self, value: object) -> bytes:
        """Encode a pydantic model or plain JSON-able data; NaN and infinities become null, as in pydantic.

        Raises:
            ValueError: something in it has no form in this encoding.
        """
        ...

    def welcome(self, fields: Mapping[str, object]) -> bytes:
        """A welcome with these fields."""
        ...

    def response(self, id: int, body: bytes) -> bytes:
        """The answer to the request `id`."""
        ...

    def error(self, id: int, error: WireError) -> bytes:
        """The failure of the request `id`, or of the connection when it is 0.

        Raises:
            ValueError: the error's details are not JSON-able.
        """
        ...

    def push_tail(self, route: str, body: bytes) -> bytes:
        """What all recipients of a push have in common; encode it once and give it to `push` for each."""
        ...

    def push_head(self, seq: int) -> bytes:
        """What a session's copy of a push has to itself; the tail follows."""
        ...

    def push(self, seq: int, tail: bytes) -> bytes:
        """One session's copy of a push: head and tail."""
        ...

    def drain(self, reason: str, reconnect_in: float) -> bytes:
        """A notice that the server closes soon; `reconnect_in` is in seconds."""
        ...

    def ping(self) -> bytes:
        """A ping, the same in both directions."""
        ...

    def pong(self) -> bytes:
        """A pong, the same in both directions."""
        ...

    def hello(self, fields: Mapping[str, object]) -> bytes:
        """A client's hello, with `auth` and, if wanted, `client` and `resume`."""
        ...

    def request(self, id: int, route: str, body: bytes) -> bytes:
        """A client's request."""
        ...

    def notify(self, route: str, body: bytes) -> bytes:
        """A client's notify."""
        ...

    def ack(self, seq: int) -> bytes:
        """A client's ack of all pushes up to `seq`."""
        ...

    def decode_server(self, data: bytes) -> ServerFrame:
        """Read one frame from a server, with its body decoded. Lists and maps in it may be of any length.

        Raises:
            Malformed: it is none, or one that only a client sends.
        """
        ...
