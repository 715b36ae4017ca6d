"""What can go wrong for a client, as one tree.

    ClientError
     ├── ConnectFailed (ConnectionError)    no session: nobody listens, no Skyloom gateway, no welcome in time
     │    └── HelloRefused                  the gateway answered the hello with an error or a close code
     ├── ConnectionLost (ConnectionError)   the connection ended for good
     │    ├── SessionLost                   a connection came back, but with a new session: start over
     │    └── NotConnected                  there is no connection now, and this does not wait for one
     ├── RequestTimeout (TimeoutError)      no answer in time
     ├── RequestFailed                      the gateway or the app answered with an error: code, kind, details
     ├── AnswerInvalid (ValueError)         an answer or push does not fit the type that was asked for
     ├── MessageTooLarge (ValueError)       the frame is over the gateway's limit and was not sent
     ├── PushOverflow                       a consumer of pushes was too slow; `missed` pushes are gone
     └── ProtocolViolation                  the gateway sent what the protocol does not allow

Whether a request ran: `RequestFailed` says so by its code. `ConnectionLost`, `SessionLost`, `NotConnected` and
`RequestTimeout` have `sent`: when it is False the request never left this client, so it surely did not run; when it is
True nobody knows. `MessageTooLarge` never left either.
"""

from collections.abc import Mapping

from skyloom_gateway.wire.codes import WireError


class ClientError(Exception):
    """Base of every error that the client raises on its own account."""


class ConnectFailed(ClientError, ConnectionError):
    """No session came about: the address does not answer, does not speak the protocol, or gave no welcome
    in time.
    """


class HelloRefused(ConnectFailed):
    """The gateway refused the hello.

    `code`, `kind`, `message`, `retryable` and `details` are those of the gateway's error; when it only
    closed the connection, `code` is None and `message` is the close reason. `close_code` is None when no
    close code came.
    """

    def __init__(self, error: WireError | None, close_code: int | None = None, reason: str = "") -> None:
        self.code: str | None = error.code if error else None
        self.kind: str | None = str(error.kind) if error else None
        self.message: str = error.message if error else (reason or "the gateway closed the connection")
        self.retryable: bool = error.retryable if error else False
        self.details: Mapping[str, object] = error.details if error else {}
        self.close_code = close_code
        label = self.code or f"close code {close_code}"
        super().__init__(f"the gateway refused the hello ({label}): {self.message}")


class ConnectionLost(ClientError, ConnectionError):
    """The connection ended, and the client does not come back: it was closed, refused, replaced, or gave up.

    `code` is the close code (None when the connection broke without one), `reason` its text, `error` the
    error with id 0 that the gateway sent before it closed, if any. `sent` is False when the request surely
    never left this client; when it is True the request may have run.
    """

    def __init__(self, code: int | None, reason: str, *, error: WireError | None = None, sent: bool = True) -> None:
        self.code = code
        self.reason = reason
        self.error = error
        self.sent = sent
        why = f"{error.code}: {error.message}" if error else reason or "no reason given"
        super().__init__(f"the connection is closed (code {code}): {why}" if code else f"the connection is lost: {why}")


class SessionLost(ConnectionLost):
    """The client came back, and the gateway began a new session, which knows nothing of the old one.

    Raised by requests of the old session that have no answer - `sent` tells whether they may have run - and by streams
    of pushes, in the place where pushes of the old session may be missing. The client is connected: set up again what
    the session had, such as rooms, and go on.
    """

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__(None, "the gateway began a new session", sent=sent)


class NotConnected(ConnectionLost):
    """There is no connection at the moment, or none any more, and nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason, sent=False)


class RequestTimeout(ClientError, TimeoutError):
    """No answer to a request within `timeout_seconds`. A late answer is counted and dropped. `sent` False: there was no
    connection all that time, and the request never left this client.
    """

    def __init__(self, route: str, timeout_seconds: float, *, sent: bool = True) -> None:
        self.route = route
        self.timeout_seconds = timeout_seconds
        self.sent = sent
        fate = "it may have run" if sent else "it was not sent, for want of a connection"
        super().__init__(f"no answer to {route} within {timeout_seconds:g} s; {fate}")


class RequestFailed(ClientError):
    """The answer to a request is an error.

    `code` is stable and namespaced ("chat.room_not_found"), `kind` one of the protocol's twelve,
    `retryable` whether the same request may succeed later, `details` data about it. `route` is None for an
    error that answers no request.
    """

    def __init__(self, error: WireError, route: str | None = None) -> None:
        self.code: str = error.code
        self.kind: str = str(error.kind)
        self.message: str = error.message
        self.retryable: bool = error.retryable
        self.details: Mapping[str, object] = error.details
        self.route = route
        super().__init__(f"{route or 'the gateway'}: {error.code} ({self.kind}): {error.message}")


class AnswerInvalid(ClientError, ValueError):
    """A body from the gateway does not fit the type asked for by `returns` or `body`; pydantic's error is
    the cause.
    """

    def __init__(self, route: str, wanted: str, reason: str) -> None:
        self.route = route
        super().__init__(f"the body of {route} is not a valid {wanted}: {reason}")


class MessageTooLarge(ClientError, ValueError):
    """A frame of `size_bytes` is over the gateway's `limit_bytes`; nothing was sent, and the session is
    unharmed.
    """

    def __init__(self, route: str, size_bytes: int, limit_bytes: int) -> None:
        self.route = route
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the message to {route} takes {size_bytes} bytes, over the gateway's {limit_bytes}; send it in parts"
        )


class PushOverflow(ClientError):
    """A consumer of pushes fell behind by more than its buffer, and `missed` pushes after the last one it
    got are gone.

    Raised once for each gap, in its place: after the pushes that came before it. The stream goes on
    afterwards.
    """

    def __init__(self, route: str | None, missed: int, buffer_max: int) -> None:
        self.route = route
        self.missed = missed
        super().__init__(
            f"{missed} pushes of {route or 'all routes'} were dropped: the consumer left {buffer_max} "
            "waiting; take them faster or pass a larger buffer_max"
        )


class ProtocolViolation(ClientError):
    """The gateway sent a frame that protocol version 1 does not allow; the client closes the connection."""
