"""An agent: the service that answers one client for one app.

What to write::

    class ChatAgent(Agent):
        @request("chat.join", errors=[RoomNotFound])
        async def join(self, body: Join) -> Joined: ...  # pydantic in, pydantic out

        @request("chat.history", concurrent=True)  # may run beside others
        async def history(self, body: HistoryQuery) -> Messages: ...

        @notify("chat.typing")
        async def typing(self, body: Typing) -> None: ...  # no answer

        async def on_suspend(self) -> None: ...  # the connection is lost, the session waits for the client
        async def on_resume(self) -> None: ...  # the client is back
        async def on_stop(self) -> None: ...  # the client's session has ended

A handler may leave `body` out, and return None for an empty answer; one that is declared to return a model returns
that. Raise a `Failed` with a code of your app's to answer with an error; the client sees code, kind, message and
details. Name its class in the route's `errors`: then the contract (`skyloom schema`) and the clients made from it know
it, with its docstring for description. Whatever else is raised reaches the client as ``gateway.internal`` and nothing
more. A body that does not validate is answered ``gateway.invalid_body``, and the handler never sees it.

Of a service that does not answer a handler, the client is told ``gateway.outcome_unknown``: some of what it wanted may
be done. On an agent with ``calls_first = True``, whose handlers do nothing before they call, a call that surely did not
start is told as ``gateway.unavailable``, which the client may repeat.

Who may call a route is for the route to say, by a method of the agent's::

    class RoomAgent(Agent):
        def is_admin(self) -> bool:
            return self.claims.get("role") == "admin"

        @request("room.close", allow=is_admin)
        async def close(self, body: Room) -> None: ...

`allow` may be `async`. It is asked when the request's turn has come and before its body is looked at, so that the
rejected learn nothing of it: they get ``gateway.permission_denied``. A rule for all routes is `on_authorize`; one that
needs the body is the handler's, which raises `NotPermitted`.

One request runs at a time, in the order in which they came, unless its route is `concurrent`. An agent is a service:
it calls others, is called, and is tested by spawning it in a `Node`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from skyloom import Failed, NotExecuted, Service
from skyloom.message.value import Handed
from skyloom_gateway.auth.identity import NO_CLAIMS
from skyloom_gateway.client_error import client_error
from skyloom_gateway.load import kind
from skyloom_gateway.push import ClientRef, Push, fan_out, refuse_undeclared
from skyloom_gateway.wire import CODECS, Malformed
from skyloom_gateway.wire.fields import is_route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from skyloom import Address
    from skyloom_gateway.wire import Codec

INVALID_BODY_ERRORS_MAX: Final = 16
"""Validation errors that a client is told of at once."""

INVALID_BODY_ERRORS_READ_MAX: Final = 1024
"""Validation errors of one body that are looked at: telling all 30,000 that fit a frame would take 50 ms."""

INVALID_BODY_ERRORS_SAID: Final = 3
"""Of them, those that stand in the error's message."""

INVALID_BODY_MESSAGE_CHARS_MAX: Final = 400

INVALID_BODY_CHARS_MAX: Final = 128
"""The longest text in the description of a validation error; a field's name may be the client's own."""

_ROUTE_MARK: Final = "__skyloom_route__"
_RUNTIME_CODES: Final = ("skyloom.", "gateway.")
_CODECS: Final[dict[str, Codec]] = {codec.name: codec for codec in CODECS.values()}

Allow: TypeAlias = "Callable[[Any], bool | Awaitable[bool]]"
H = TypeVar("H", bound="Callable[..., Coroutine[Any, Any, Any]]")


class InvalidBody(Failed, code="gateway.invalid_body", kind="invalid_argument"):
    """The body of a frame does not fit its route; `details["errors"]` has what pydantic says."""


class NotPermitted(Failed, code="gateway.permission_denied", kind="permission_denied"):
    """The client is known, and may not do this. Handlers may raise it too, with a message that helps."""


class TooLate(Failed, code="gateway.deadline_exceeded", kind="deadline_exceeded"):
    """A request's time passed before its turn came; it was not begun."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of an agent: its handler, and what goes in and out."""

    name: str
    handler: Callable[..., Coroutine[Any, Any, Any]]
    is_request: bool
    concurrent: bool
    body: TypeAdapter[Any] | None
    answer: TypeAdapter[Any] | None
    model: type[BaseModel] | None
    """What the handler is declared to return, where that is one model."""
    validate: Callable[[object], Any] | None
    """Checks the body; None when the handler takes none."""
    errors: tuple[type[Failed], ...]
    """What it may fail with, of the app's own, in the order of their codes."""
    allow: Allow | None
    """Says whether an agent's client may call it; None when every client may."""
    guarded: bool
    """Whether there is anything to ask before the handler is called."""


def request(
    route: str, *, concurrent: bool = False, allow: Allow | None = None, errors: Sequence[type[Failed]] = ()
) -> Callable[[H], H]:
    """Let clients call this method: its argument is the body, its result the answer.

    Args:
        route: what clients call it by, "<app>.<name>".
        concurrent: whether it may run beside the client's other requests to the app.
        allow: a method of the agent's, plain or async, that says whether its client may call the route; all may
            when None.
        errors: what it may raise that clients are to tell apart: subclasses of `Failed`, each with a code of its own.
            They stand in the contract; the gateway's own errors, which every route may meet, do so without this.
    """
    return _marked(route, True, concurrent, allow, errors)


def notify(route: str, *, allow: Allow | None = None, errors: Sequence[type[Failed]] = ()) -> Callable[[H], H]:
    """Let clients send this method a body that wants no answer; for the arguments see `request`.

    An error of a notify comes to the client with id 0.
    """
    return _marked(route, False, False, allow, errors)


def _marked(
    route: str, is_request: bool, concurrent: bool, allow: Allow | None, errors: Sequence[type[Failed]]
) -> Callable[[H], H]:
    name = "@request" if is_request else "@notify"
    if not isinstance(route, str):
        raise TypeError(f"{name} needs the route's name: write {name}('<app>.<name>')")
    if allow is not None and not callable(allow):
        raise TypeError(f"{name}({route!r}): allow is {kind(allow)}, not a method that says who may call it")
    if not isinstance(errors, list | tuple):
        raise TypeError(f"{name}({route!r}): errors is {kind(errors)}, not a list of classes")

    def mark(handler: H) -> H:
        setattr(handler, _ROUTE_MARK, (route, is_request, concurrent, allow, tuple(errors)))
        return handler

    return mark


def routes_in(cls: type) -> dict[str, tuple[Any, ...]]:
    """The attributes of a class that `request` or `notify` has marked, with what they were given."""
    found = {}
    for attribute in dir(cls):
        mark = getattr(inspect.getattr_static(cls, attribute), _ROUTE_MARK, None)
        if mark is not None:
            found[attribute] = mark
    return found


class Agent(Service):
    """See the module's docstring. `user` is who the client is, `claims` what its authenticator knows of it, and
    `client` how other services may push to it.
    """

    mailbox_messages_max = 256

    calls_first: ClassVar[bool] = False
    """Whether each handler begins with a call, and has done nothing when that one did not start."""

    routes: ClassVar[dict[str, Route]] = {}

    def __init__(self, client: ClientRef, user: str, claims: Mapping[str, Any] = NO_CLAIMS) -> None:
        self.client = client
        self.user = user
        self.claims = claims
        self._codec = _CODECS[client.encoding]
        self._busy = False
        self._turns: deque[asyncio.Future[None]] = deque()
        self.dispatch("client", self._on_client)
        self.dispatch("socket", self._on_socket)

    async def on_authorize(self, route: Route) -> bool:
        """Whether the client may call `route`: as its `allow` says, or a rule of yours for all routes, in which
        ``await super().on_authorize(route)`` asks for the route's own.
        """
        if route.allow is None:
            return True
        verdict = route.allow(self)
        return bool(await verdict if inspect.isawaitable(verdict) else verdict)

    def push(self, push: Push) -> None:
        """Send this agent's client a message unasked."""
        if not push.declared:
            refuse_undeclared(push)
        body = self._codec.encode_body(push)
        as_json = body if self._codec.name == "json" else None
        self.send(self.client.gate, "client", push.route, as_json, None if as_json else body, (self.client.session,))

    def fan_out(self, clients: Iterable[ClientRef], push: Push) -> None:
        """Send many clients one message; see `skyloom_gateway.push.fan_out`."""
        fan_out(self, clients, push)

    def end_session(self, reason: str) -> None:
        """Throw the client out: its session ends with close code 4403, and it is told why, in at most 123 bytes.

        Any service that has a `ClientRef` can do the same: it sends its `gate` "end_session".
        """
        self.send(self.client.gate, "lua", "end_session", self.client.session, reason)

    async def on_suspend(self) -> None:
        """The connection is lost; override it, for example to show the player as away.

        The session waits for the client. Pushes are kept for it meanwhile, requests under way go on.
        """

    async def on_resume(self) -> None:
        """The client is back, and has got, or will get, every push. Begins before the requests that it sends now.

        It was authenticated anew: `claims` are what it came back with, `user` is the same.
        """

    async def on_info(self) -> dict[str, object]:
        """Whose agent it is, and how many requests wait for their turn."""
        return {"user": self.user, "session": self.client.session, "turns_waiting": len(self._turns)}

    async def _on_socket(
        self, session: int, source: Address, event: str, claims: Mapping[str, Any] | None = None
    ) -> bool:
        """The gate says what became of the session."""
        if event == "suspend":
            await self.on_suspend()
        elif event == "resume":
            self.claims = NO_CLAIMS if claims is None else claims
            await self.on_resume()
        else:
            self.exit()
        return True

    async def _on_client(self, session: int, source: Address, name: str, body: bytes | Handed) -> bytes | None:
        """A frame of the client's, forwarded by the gate: answer with the encoded body of the response."""
        route = self.routes[name]
        handle = self._guard if route.guarded else self._handle
        try:
            if route.concurrent or not route.is_request:
                answer = await handle(route, body)
            else:
                if self._busy:
                    await self._turn()
                self._busy = True
                try:
                    answer = await handle(route, body)
                finally:
                    if self._turns:
                        self._next_turn()
                    else:
                        self._busy = False
        except NotExecuted as error:
            if self.calls_first:
                raise _nothing_done(error) from None
            raise
        if not route.is_request:
            return b""
        if answer is None and route.model is None:
            answer = {}
        elif route.model is not None and not isinstance(answer, route.model):
            raise _wrong_answer(route, answer, f"it is declared to return {route.model.__name__}")
        try:
            return self._codec.encode_body(answer)
        except (PydanticSerializationError, TypeError, ValueError) as error:
            raise _wrong_answer(route, answer, f"that cannot be encoded: {error}") from None

    async def _guard(self, route: Route, body: bytes | Handed) -> Any:
        """Let the handler run if the client may call it."""
        if not await self.on_authorize(route):
            raise NotPermitted(f"you may not call {route.name}")
        return await self._handle(route, body)

    def _handle(self, route: Route, body: bytes | Handed) -> Coroutine[Any, Any, Any]:
        """Check the body and begin the handler; no coroutine of its own, since every request comes through here."""
        if route.validate is None:
            return route.handler(self)
        try:
            value = route.validate(body.value if type(body) is Handed else self._codec.decode_body(body))
        except Malformed as malformed:
            raise InvalidBody(malformed.reason) from None
        except ValidationError as invalid:
            raise _invalid_body(invalid) from None
        return route.handler(self, value)

    async def _turn(self) -> None:
        """Wait until the requests that came before have ended. Raises TooLate."""
        future: asyncio.Future[None] = self.node.loop.create_future()
        self._turns.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._next_turn()
            raise
        if self.request.deadline < self.clock.now():  # its client was told so
            self._next_turn()
            raise TooLate("the request waited too long for those before it")

    def _next_turn(self) -> None:
        while self._turns:
            future = self._turns.popleft()
            if not future.done():
                future.set_result(None)  # we stay busy: nobody may slip in between
                return
        self._busy = False

    @classmethod
    def bind_routes(cls) -> dict[str, Route]:
        """Read the handlers' types; called once, when the class is given to an `App`. Raises TypeError."""
        routes: dict[str, Route] = {}
        for attribute, (name, is_request, concurrent, allow, errors) in routes_in(cls).items():
            handler = inspect.getattr_static(cls, attribute)
            if hasattr(Agent, attribute):
                raise TypeError(
                    f"{cls.__name__}.{attribute} ({name!r}): it hides {attribute!r} of every agent; rename the method"
                )
            if name in routes:
                raise TypeError(f"{cls.__name__}: route {name!r} has two handlers")
            body, answer, model = _types(cls, handler, name)
            validate = None if body is None else body.validator.validate_python
            declared = _errors(cls, name, errors)
            guarded = allow is not None or cls.on_authorize is not Agent.on_authorize
            routes[name] = Route(
                name, handler, is_request, concurrent, body, answer, model, validate, declared, allow, guarded
            )
        cls.routes = routes
        return routes


def _nothing_done(error: NotExecuted) -> Failed:
    """What a client is told of it, as if the agent itself had not been reached."""
    told = client_error(error)
    return Failed(told.message, code=told.code, kind=told.kind, retryable=told.retryable)


def _wrong_answer(route: Route, answer: object, why: str) -> TypeError:
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns of it, too
        why = "an `await` is missing"
    return TypeError(f"{route.handler.__qualname__} ({route.name!r}) returned {kind(answer)}: {why}")


def _errors(cls: type, route: str, errors: tuple[Any, ...]) -> tuple[type[Failed], ...]:
    """Check what a route says it may fail with, and sort it by code. Raises TypeError."""
    by_code: dict[str, type[Failed]] = {}
    for error in errors:
        where = f"{cls.__name__}, route {route!r}, errors: {getattr(error, '__name__', type(error).__name__)}"
        if not isinstance(error, type) or not issubclass(error, Failed):
            raise TypeError(f"{where} is no subclass of skyloom.Failed")
        if error.code.startswith(_RUNTIME_CODES):
            raise TypeError(f"{where} has no code of its own: class {error.__name__}(Failed, code='<app>.<what>')")
        if not is_route(error.code) or "." not in error.code:
            raise TypeError(f"{where}: its code {error.code!r} must be '<app>.<what>', of a-z, 0-9, _ and .")
        if by_code.setdefault(error.code, error) is not error:
            raise TypeError(f"{where} and {by_code[error.code].__name__} have the same code {error.code!r}")
    return tuple(by_code[code] for code in sorted(by_code))


def _invalid_body(invalid: ValidationError) -> InvalidBody:
    """Where a body does not fit and why, without the values that the client sent."""
    count = invalid.error_count()
    if count > INVALID_BODY_ERRORS_READ_MAX:
        return InvalidBody(f"the body does not fit in {count} places", details={"errors": []})
    found = invalid.errors(include_url=False, include_context=False, include_input=False)[:INVALID_BODY_ERRORS_MAX]
    chars = INVALID_BODY_CHARS_MAX
    places = [[part[:chars] if isinstance(part, str) else part for part in error["loc"]] for error in found]
    said = [
        f"{'.'.join(map(str, place)) or 'body'}: {error['msg'][:chars]}"
        for error, place in zip(found[:INVALID_BODY_ERRORS_SAID], places, strict=False)
    ]
    return InvalidBody(
        f"the body does not fit: {'; '.join(said)[:INVALID_BODY_MESSAGE_CHARS_MAX]}",
        details={
            "errors": [
                {**error, "loc": place, "msg": error["msg"][:chars]} for error, place in zip(found, places, strict=True)
            ]
        },
    )


def _types(
    cls: type, handler: Any, route: str
) -> tuple[TypeAdapter[Any] | None, TypeAdapter[Any] | None, type[BaseModel] | None]:
    where = f"{cls.__name__}.{handler.__name__} ({route!r})"
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{where}: write it as `async def`")
    own, *parameters = list(inspect.signature(handler).parameters) or [""]
    if len(parameters) > 1:
        raise TypeError(f"{where}: it takes one body, not {len(parameters)} arguments")
    try:
        hints = get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise TypeError(f"{where}: {error}; import it at run time, and not for type checkers alone") from None
    if not own or own in hints:
        raise TypeError(f"{where}: its first argument is self, and then comes the body")
    if parameters and parameters[0] not in hints:
        raise TypeError(f"{where}: give its argument {parameters[0]!r} a type, such as a pydantic model")
    answer = hints.get("return")
    return (
        TypeAdapter(hints[parameters[0]]) if parameters else None,
        None if answer is None or answer is type(None) else TypeAdapter(answer),
        answer if isinstance(answer, type) and issubclass(answer, BaseModel) else None,
    )
