"""A service: an actor that is reached by messages only.

What to write::

    class UserService(Service):
        name = "USER_SERVICE"  # registered once it has started; leave out for none

        async def on_start(self) -> None: ...  # before the first message
        async def on_stop(self) -> None: ...  # after the last one; not when it is killed

        @rpc
        async def get_user(self, user_id: int) -> User: ...  # returning is answering, raising is failing

How to reach it, from another service::

    users = await self.query("USER_SERVICE")
    user = await self.call(users, "lua", "get_user", 42)
    user = await UserService.at(self, users).get_user(42)  # the same, typed
    self.send(users, "lua", "log_in", 42)  # no answer, may be lost

What is promised: handlers of one service run on one thread and interleave only where they await (``serial = True``
lets one message at a time in); messages of one sender start in the order sent; every call ends by answer, error or
deadline; what crosses between services is a copy. A service is tested by spawning it in a `Node` and calling it.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

from skyloom.message.errors import AnsweredTwice
from skyloom.message.message import NEVER, Message
from skyloom.message.protocol import Protocol
from skyloom.message.ptype import Ptype
from skyloom.node.pending import Pending
from skyloom.node.worker import CURRENT
from skyloom.service.crash import Crash
from skyloom.service.response import Response
from skyloom.service.rpc import Proxy, rpc_methods
from skyloom.service.section import Section
from skyloom.service.select import Answer, select
from skyloom.service.signals import Signals
from skyloom.service.timer import Timer
from skyloom.service.watches import Watches

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping
    from typing import Self

    from skyloom.message.address import Address
    from skyloom.node.cell import Cell
    from skyloom.node.clock import Clock
    from skyloom.node.node import Node

K = TypeVar("K")
P = TypeVar("P")
T = TypeVar("T")


class Service:
    """Subclass it and write what the module's docstring shows. ``__init__`` takes what `spawn` is given."""

    name: ClassVar[str | None] = None
    """The name it registers under; a node has one service of a name."""

    serial: ClassVar[bool] = False
    """Whether a message waits until the handler of the one before has ended."""

    handlers_max: ClassVar[int] = 1_000
    """Handlers that may be half-run at once; further messages wait in the mailbox."""

    mailbox_messages_max: ClassVar[int] = 1_000
    """Messages that may wait; more are refused (a call) or become dead letters (a send)."""

    mailbox_bytes_max: ClassVar[int] = 4 * 1024 * 1024
    """Bytes of payload that may wait."""

    start_seconds: ClassVar[float | None] = 30.0
    """How long `on_start` may take; None for as long as it likes."""

    stop_seconds: ClassVar[float | None] = 5.0
    """How long `on_stop` may take, unless a supervisor says otherwise; None for as long as it likes."""

    rpc_methods: ClassVar[dict[str, Callable[..., Coroutine[Any, Any, Any]]]] = {}

    _cell: Cell
    _signals: Signals | None = None
    _queue_section: Section | None = None
    _watches: Watches | None = None
    _parts: dict[object, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.rpc_methods = rpc_methods(cls)
        for method in cls.rpc_methods:
            if hasattr(Service, method):
                raise TypeError(
                    f"@rpc '{cls.__name__}.{method}': it hides {method!r} of every service; rename the method"
                )

    # -- to override -----------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Called before the first message; messages wait meanwhile. Raising ends the service.

        What is raised is logged with its traceback, but for CannotStart, whose text is enough.
        """

    @classmethod
    def on_check(cls, env: Mapping[str, str]) -> None:
        """Called on the class before a gateway starts anything, and by `skyloom check`, which starts nothing.

        Raise CannotStart for what can be seen now to keep `on_start` from succeeding. `env` is what `getenv` reads.
        Look only, and quickly: the service may be running elsewhere.
        """

    async def on_stop(self) -> None:
        """Called when the service exits or its node stops, after the last handler; not when it is killed."""

    async def on_down(self, address: Address, how: str) -> None:
        """Called when a service that this one monitors has ended; `how` says why, for people."""

    async def on_info(self) -> Mapping[str, object]:
        """What to show an operator who asks for this service, besides what the runtime knows: values by their names.

        Keep it short, and leave out what is your users' own (skynet.info_func).
        """
        return {}

    # -- who and where ---------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """This service's address."""
        return self._cell.address

    @property
    def node(self) -> Node:
        """The node it lives on."""
        return self._cell.node

    @property
    def clock(self) -> Clock:
        """The node's clock: ``now()`` monotonic seconds, ``time()`` seconds since 1970."""
        return self._cell.node.clock

    @property
    def random(self) -> random.Random:
        """The node's source of chance; the only one to use, so that a run repeats from its seed."""
        return self._cell.node.random

    @property
    def title(self) -> str:
        """Class and address, for people."""
        return f"{type(self).__name__}{self._cell.address}"

    @property
    def request(self) -> Message:
        """The message being handled: session, source, deadline, trace. Raises RuntimeError outside a handler."""
        message = CURRENT.get()
        if message is None:
            raise RuntimeError("no message is being handled here: fork, timers and on_start have no request")
        return message

    @property
    def deadline(self) -> float:
        """When the request being handled must be answered, in seconds of `clock`; inf where there is no request."""
        message = CURRENT.get()
        return NEVER if message is None else message.deadline

    def getenv(self, key: str) -> str | None:
        """A setting of the node (skynet.getenv)."""
        return self._cell.node.env.get(key)

    # -- sending ---------------------------------------------------------------------------------------------

    def call(
        self, dest: Address | str, ptype: str | int, *args: object, timeout: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Send a request and wait for its answer.

        `dest` is an address, or a name: that is looked up anew at each call, so that it finds the service that a
        supervisor has started in the place of one that crashed. Nothing is sent a second time.
        `ptype` names a protocol ("lua" for rpc methods: the method's name, then its arguments); `timeout` is in
        seconds, 5 unless told, and never more than what remains of the request being handled. Raises NotExecuted
        (surely did not start), Unknown (may have run), Expired (deadline), Failed (ran and raised), ValueRefused
        (an argument cannot cross), LookupError (no such protocol); UnknownName is a NotExecuted.
        """
        if isinstance(dest, str):
            return self._cell.call_named(dest, ptype, args, timeout)
        return self._cell.call(dest, ptype, args, timeout)

    def send(self, dest: Address | str, ptype: str | int, *args: object) -> None:
        """Send a message that wants no answer. It may be lost; then it is in the node's dead letters.

        `dest` is an address or a name, as in `call`. A name of another node takes asking for, so that messages sent
        to it later, by address, may overtake.
        Raises ValueRefused and LookupError as `call`.
        """
        self._cell.send(dest, ptype, args)

    def redirect(
        self,
        dest: Address,
        source: Address,
        ptype: str | int,
        session: int,
        payload: bytes | tuple[object, ...],
    ) -> None:
        """Send a message in another's name, its payload packed already (skynet.redirect).

        The answer goes straight to `source`. Redirecting the request being handled passes on its deadline, and the
        duty to answer. A "response" or "error" with a session is an answer to that session of `dest`.
        """
        ptype = self._cell.protocol(ptype).id
        if session and ptype in (Ptype.RESPONSE, Ptype.ERROR):
            self.node.answer_session(dest, session, ptype, payload)
            return
        current = CURRENT.get()
        if current is not None and session and current.session == session and current.source == source:
            if current.taken:
                raise AnsweredTwice("this request was answered, or passed on, before")
            self._cell.take(current)
            self.node.passed_on(current, dest)
            message = Message(ptype, source, session, payload, current.deadline, current.trace)
            claim = getattr(current, "claim", None)
            if type(claim) is Pending:
                claim.forwarded = (dest, message)
        else:
            message = Message(ptype, source, session, payload, trace=None if current is None else current.trace)
        self.node.post(dest, message)

    def forward(self, dest: Address) -> None:
        """Pass the message being handled on to `dest`, unopened; the answer goes straight to who asked."""
        request = self.request
        self.redirect(dest, request.source, request.ptype, request.session, request.payload)

    def ret(self, *values: object) -> None:
        """Answer the request being handled, from a raw handler (skynet.ret). Raises AnsweredTwice."""
        self.response().ret(*values)

    def response(self) -> Response:
        """Take the duty to answer out of the handler: answer later, from anywhere. Raises AnsweredTwice."""
        return Response(self._cell, self.request)

    def select(
        self, calls: Mapping[K, Coroutine[Any, Any, T]], *, timeout: float | None = None
    ) -> AsyncIterator[Answer[K, T]]:
        """Make many calls at once and get their answers as they come::

            async for answer in self.select({city: self.call(city, "lua", "weather") for city in cities}, timeout=1):
                print(answer.key, answer.error or answer.value)

        Every call gets one `Answer`; those without one within `timeout` seconds get an Expired, all at the end.
        """
        return select(self, calls, timeout)

    # -- receiving -------------------------------------------------------------------------------------------

    def register_protocol(
        self,
        name: str,
        id: int,
        pack: Callable[..., bytes] | None = None,
        unpack: Callable[[bytes], Any] | None = None,
    ) -> None:
        """Let this service send and receive messages of a type of its own; see `Protocol`.

        Raises ValueError when the name or the id stands for another protocol already.
        """
        protocols = dict(self._cell.protocols)
        for key in (name, id):
            if key in protocols:
                raise ValueError(f"protocol {name!r}: {key!r} is that of {protocols[key].name!r} already")
        protocols[name] = protocols[id] = Protocol(name, id, pack, unpack)
        self._cell.protocols = protocols

    def dispatch(
        self, ptype: str | int, handler: Callable[..., Coroutine[Any, Any, object]], *, unpack: bool = True
    ) -> None:
        """Handle a message type by hand: ``await handler(session, source, *arguments)`` (skynet.dispatch).

        Returning something is answering; so is `ret`. A handler of a call that ends without an answer, a `response`
        or a `forward` fails its caller. For "lua" this replaces the rpc methods. With ``unpack=False`` the payload
        stays as it came, in ``self.request.payload``, and the handler gets session and source only: for relays.
        """
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"dispatch {ptype!r}: the handler must be `async def`")
        self._cell.add_handler(self._cell.protocol(ptype).id, handler, unpack=unpack)

    # -- time and tasks --------------------------------------------------------------------------------------

    def fork(
        self, coroutine: Coroutine[Any, Any, T], *, inherit: bool = False, critical: bool = False
    ) -> asyncio.Task[T]:
        """Run a coroutine beside the handler, as part of this service: it ends with the service at the latest.

        An exception in it is logged, and raised by awaiting the task. With `inherit` it belongs to the request
        being handled and shares its deadline; else it has no request. With `critical` an exception crashes the
        service, for what it cannot do without: its writer, its tick.
        """
        if not asyncio.iscoroutine(coroutine):
            raise TypeError(f"fork: a coroutine is needed, as in fork(self.work()), not a {type(coroutine).__name__}")
        cell, request = self._cell, CURRENT.get() if inherit else None
        task = cell.node.run_task(cell, coroutine, f"{self.title} fork", request)
        if critical:

            def ended(task: asyncio.Task[T]) -> None:
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    cell.node.services.crash(cell, error, request)

            task.add_done_callback(ended)
        return task

    async def sleep(self, seconds: float) -> None:
        """Let others run for so many seconds."""
        future: asyncio.Future[None] = self.node.loop.create_future()
        timer = self.clock.call_at(
            self.clock.now() + seconds, lambda: None if future.done() else future.set_result(None)
        )
        try:
            await future
        finally:
            timer.cancel()

    def timeout(self, seconds: float, callback: Callable[..., Coroutine[Any, Any, object]], *args: object) -> Timer:
        """Run ``callback(*args)`` in this service so many seconds from now, unless cancelled before."""
        return Timer(self, seconds, callback, args)

    async def wait(self, token: Hashable) -> None:
        """Wait for a `wakeup` of the token in this service; one that came before is not lost."""
        if self._signals is None:
            self._signals = Signals()
        await self._signals.wait(token)

    def wakeup(self, token: Hashable) -> bool:
        """Wake the first handler that waits for the token; False when none did, then the next one will not wait."""
        if self._signals is None:
            self._signals = Signals()
        return self._signals.wakeup(token)

    def queue(self) -> Section:
        """A critical section: ``async with section:`` lets one handler at a time in (skynet.queue)."""
        return Section()

    @property
    def queue_section(self) -> Section:
        """The section in which "queue" messages are handled, one at a time."""
        if self._queue_section is None:
            self._queue_section = Section()
        return self._queue_section

    # -- services --------------------------------------------------------------------------------------------

    def register(self, name: str) -> None:
        """Give this service a name, also for the nodes connected to this one. Raises NameTaken."""
        self.node.register(name, self.address)

    async def query(self, name: str, *, wait: float = 0.0) -> Address:
        """The address of the service of that name, here or on another node.

        Waits up to `wait` seconds for one to register. Raises UnknownName.
        """
        return await self.node.find(name, wait)

    async def spawn(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """Start a service on this node; see `Node.spawn`."""
        return await self.node.spawn(cls, *args, **kwargs)

    async def unique(self, cls: type[Service], *args: object, **kwargs: object) -> Address:
        """The node's only service of this class, started on first use; see `Node.unique`."""
        return await self.node.unique(cls, *args, **kwargs)

    def exit(self) -> None:
        """End this service once the handler that says so has ended and answered; all others fail at once."""
        self.node.services.exit(self._cell, CURRENT.get())

    def crash(self, reason: str | BaseException) -> NoReturn:
        """End this service at once because its state cannot be trusted any more; its supervisor starts a new one.

        A handler that raises fails its own call and nothing else; say `crash` where that is not enough, for example
        in `on_down` when one cannot live without the other. No `on_stop`; the message being handled and those in
        the mailbox are not delivered again, and the former is in the node's dead letters with the traceback. Does
        not return: what runs is cancelled, and callers get Unknown.
        """
        error = Crash(reason) if isinstance(reason, str) else reason
        self.node.services.crash(self._cell, error, CURRENT.get())
        raise asyncio.CancelledError(f"{self.title} crashed")

    def kill(self, address: Address) -> bool:
        """End another service at once; see `Node.kill`."""
        return self.node.kill(address)

    def monitor(self, address: Address, callback: Callable[[Address, str], Awaitable[None]] | None = None) -> None:
        """Have `on_down`, or the callback in its place, called when that service ends; at once if it is not alive."""
        if self._watches is None:
            self._watches = Watches(self)
        self._watches.add(address, callback or self.on_down)

    def unmonitor(self, address: Address, callback: Callable[[Address, str], Awaitable[None]] | None = None) -> None:
        """Take back `monitor` with the same arguments."""
        if self._watches is not None:
            self._watches.remove(address, callback or self.on_down)

    def part(self, cls: Callable[[Self], P]) -> P:
        """This service's one ``cls(service)``, made on first use: where a pattern keeps its state for a service."""
        if self._parts is None:
            self._parts = {}
        if cls not in self._parts:
            self._parts[cls] = cls(self)
        found: P = self._parts[cls]
        return found

    @classmethod
    def at(cls, caller: Service, address: Address | str, *, timeout: float | None = None) -> Self:
        """This class's rpc methods, called in the name of `caller` on the service at `address`, with their types.

        `address` may be a name, as in `call`: ``ChatHub.at(self, "CHAT_HUB")`` outlives the hub's crashes.

        What comes back is a `Proxy`; it has the rpc methods and nothing else.
        """
        return cast("Self", Proxy(cls, caller, address, timeout))
