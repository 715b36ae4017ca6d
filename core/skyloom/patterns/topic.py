r"""Publish and subscribe: one service tells, many hear.

What to write::

    SCORES = Topic[Score]("game.scores")  # at the top of a module that both sides import


    class Arena(Service):
        async def on_start(self) -> None:
            self.scores = SCORES.open(self, keep=20)  # the last 20 are there for late subscribers

        @rpc
        async def scored(self, score: Score) -> None:
            self.scores.publish(score)


    class Board(Service):
        async def on_start(self) -> None:
            arena = await self.query("ARENA")
            await SCORES.subscribe(self, arena, self.on_score, last=5)

        async def on_score(self, score: Score) -> None: ...

Who tells whom, all in MULTICAST messages::

    subscriber                     publisher
        | -- subscribe (a call) ----> |    monitors the subscriber: one that ends has left
        | <------ begin, kept ------- |
        | <------- message ---------- |    encoded once, and the same bytes for every subscriber
        | -- unsubscribe (a call) --> |

What is promised: a subscriber gets the messages of one topic in the order published, each at most once, from the
moment it subscribed and, if it asks for them, the `last` ones before that. One whose mailbox is full loses messages
(dead letters, and counted in `Subscription.missed`); the others and the publisher do not notice. Publishing never
waits. Works between nodes; a subscriber on a node that is lost has left, and gets its `on_end`.

A service that uses topics leaves the dispatch of "multicast" to them.
"""

from __future__ import annotations

import inspect
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from skyloom.message import value as values
from skyloom.message.errors import CallError, Failed, NotExecuted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.message.address import Address
    from skyloom.service.service import Service

SUBSCRIBERS_MAX: Final = 100_000
"""Subscribers of one topic, unless `open` is told otherwise."""

KEEP_MESSAGES_MAX: Final = 10_000
"""The most that `keep` may be: messages that a topic keeps for late subscribers."""

KEEP_BYTES_MAX: Final = 1024 * 1024
"""Bytes of payload that a topic keeps for late subscribers, whatever `keep` is; the oldest go first."""

UNSUBSCRIBE_TRIES_MAX: Final = 10
"""How often a publisher that is overloaded is told that somebody left."""

UNSUBSCRIBE_PAUSE_SECONDS: Final = 1.0
"""The time between two of these."""

T = TypeVar("T")


class NoTopic(Failed, code="skyloom.no_topic", kind="not_found"):
    """The service that was asked has not opened this topic."""


class TooManySubscribers(Failed, code="skyloom.too_many_subscribers", kind="resource_exhausted", retryable=True):
    """The topic has as many subscribers as it may have."""


class Topic(Generic[T]):
    """The name of what is published and its type, for both sides: ``SCORES = Topic[Score]("game.scores")``.

    Services of several publishers may open the same topic; a subscriber names the one it wants to hear.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not name:
            raise ValueError("topic: a name is needed")
        self.name = name

    def open(self, service: Service, *, keep: int = 0, subscribers_max: int = SUBSCRIBERS_MAX) -> Publisher[T]:
        """Let `service` publish on this topic.

        `keep` is how many of the last messages late subscribers may ask for, 0 to `KEEP_MESSAGES_MAX`. Raises
        ValueError when the service has opened the topic before.
        """
        if not 0 <= keep <= KEEP_MESSAGES_MAX:
            raise ValueError(f"topic {self.name!r}: keep={keep}; it is 0 to {KEEP_MESSAGES_MAX} messages")
        publishers = service.part(_Multicast).publishers
        if self.name in publishers:
            raise ValueError(f"topic {self.name!r}: {service.title} has opened it already")
        publisher: Publisher[T] = Publisher(service, self.name, keep, subscribers_max)
        publishers[self.name] = publisher
        return publisher

    async def subscribe(
        self,
        service: Service,
        publisher: Address,
        handler: Callable[[T], Coroutine[Any, Any, object]],
        *,
        last: int = 0,
        on_end: Callable[[str], Coroutine[Any, Any, object]] | None = None,
        timeout: float | None = None,
    ) -> Subscription[T]:
        """Have ``handler(value)`` called in `service` for what `publisher` publishes from now on.

        First it gets the `last` messages of before, or as many as were kept. ``on_end(how)`` is called once if the
        publisher ends, closes the topic or is lost. `timeout` (seconds) is for the subscribing. Raises NoTopic,
        TooManySubscribers, what `Service.call` raises, and ValueError when `service` has subscribed here already.
        """
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"subscribe {self.name!r}: the handler must be `async def`")
        multicast = service.part(_Multicast)
        if (publisher, self.name) in multicast.subscriptions:
            raise ValueError(f"subscribe {self.name!r}: {service.title} has subscribed at {publisher} already")
        subscription = Subscription(service, publisher, self.name, handler, on_end, multicast.new_token())
        multicast.subscriptions[publisher, self.name] = subscription
        service.monitor(publisher, subscription._publisher_ended)
        try:
            newest = await service.call(
                publisher, "multicast", "subscribe", self.name, subscription._token, last, timeout=timeout
            )
        except BaseException:
            subscription.unsubscribe()
            raise
        subscription._answered(newest)
        return subscription


class Publisher(Generic[T]):
    """The publishing end of a topic in one service; made by `Topic.open`."""

    def __init__(self, service: Service, name: str, keep: int, subscribers_max: int) -> None:
        self.name = name
        self._service = service
        self._subscribers_max = subscribers_max
        # By address the token of the subscription, so that a late "unsubscribe" does not end the one that followed.
        self._here: dict[Address, int] = {}
        self._elsewhere: dict[Address, int] = {}
        self._keep = keep
        self._kept: deque[bytes | tuple[object, ...]] = deque()
        self._kept_bytes = 0
        self._sequence = 0

    @property
    def subscribers(self) -> list[Address]:
        """Who would get a message published now."""
        return [*self._here, *self._elsewhere]

    @property
    def kept(self) -> int:
        """How many messages are kept for late subscribers."""
        return len(self._kept)

    def publish(self, value: T) -> int:
        """Send `value` to every subscriber, encoded at most once; returns to how many. Raises ValueRefused."""
        args = ("message", self.name, self._sequence + 1, value)
        payload = args if values.immutable(args) else values.pack(args)
        self._sequence += 1
        if self._keep:
            self._keep_payload(payload)
        redirect, source = self._service.redirect, self._service.address
        for subscriber in self._here:
            redirect(subscriber, source, "multicast", 0, payload)
        if self._elsewhere:
            if type(payload) is tuple:  # else the harbor would pack it for each of them
                payload = values.pack(payload)
            for subscriber in self._elsewhere:
                redirect(subscriber, source, "multicast", 0, payload)
        return len(self._here) + len(self._elsewhere)

    def close(self) -> None:
        """End the topic; subscribers get their `on_end`."""
        for subscriber in self.subscribers:
            self._service.send(subscriber, "multicast", "end", self.name)
            self._leave(subscriber)
        self._service.part(_Multicast).publishers.pop(self.name, None)

    def _keep_payload(self, payload: bytes | tuple[object, ...]) -> None:
        self._kept.append(payload)
        self._kept_bytes += values.weigh(payload)
        while len(self._kept) > self._keep or self._kept_bytes > KEEP_BYTES_MAX:
            self._kept_bytes -= values.weigh(self._kept.popleft())

    def _join(self, subscriber: Address, token: int, last: int) -> int:
        """Take a subscriber in, and send it what it wants of the past; nothing is published in between."""
        service = self._service
        group = self._here if subscriber.node == service.address.node else self._elsewhere
        if subscriber not in group:
            if len(self._here) + len(self._elsewhere) >= self._subscribers_max:
                raise TooManySubscribers(f"topic {self.name!r} has {self._subscribers_max} subscribers")
            service.monitor(subscriber, self._subscriber_ended)
        group[subscriber] = token
        wanted = list(self._kept)[max(0, len(self._kept) - max(0, last)) :]
        service.send(subscriber, "multicast", "begin", self.name, token, self._sequence - len(wanted))
        for payload in wanted:
            service.redirect(subscriber, service.address, "multicast", 0, payload)
        return self._sequence

    def _unsubscribed(self, subscriber: Address, token: int) -> None:
        if token in (self._here.get(subscriber), self._elsewhere.get(subscriber)):
            self._leave(subscriber)

    def _leave(self, subscriber: Address) -> None:
        self._here.pop(subscriber, None)
        self._elsewhere.pop(subscriber, None)
        self._service.unmonitor(subscriber, self._subscriber_ended)

    async def _subscriber_ended(self, subscriber: Address, _how: str) -> None:
        self._leave(subscriber)


class Subscription(Generic[T]):
    """What `Topic.subscribe` returns. `missed` counts the messages that were lost on the way here."""

    def __init__(
        self,
        service: Service,
        publisher: Address,
        name: str,
        handler: Callable[[T], Coroutine[Any, Any, object]],
        on_end: Callable[[str], Coroutine[Any, Any, object]] | None,
        token: int,
    ) -> None:
        self.publisher = publisher
        self.name = name
        self.missed = 0
        self._service = service
        self._handler = handler
        self._on_end = on_end
        self._token = token
        # What was published up to here is not for us. Until the publisher's "begin" nothing is: it may be left over
        # from an earlier subscription of the same service.
        self._newest: float = inf

    @property
    def active(self) -> bool:
        """Whether messages may still come."""
        return self._service.part(_Multicast).subscriptions.get((self.publisher, self.name)) is self

    def unsubscribe(self) -> None:
        """Leave the topic: the handler is not called any more, not even for what is under way already."""
        if self.active:
            self._forget()
            try:
                self._service.fork(self._tell())
            except NotExecuted:
                return  # this service has ended, and the publisher is told of that anyway

    async def _tell(self) -> None:
        """Tell the publisher that we left, also when its mailbox is full just now."""
        for _ in range(UNSUBSCRIBE_TRIES_MAX):
            try:
                await self._service.call(self.publisher, "multicast", "unsubscribe", self.name, self._token)
                return
            except CallError as error:
                if error.kind not in ("resource_exhausted", "deadline_exceeded"):
                    return  # the publisher is gone, or was lost and with it the subscription
            await self._service.sleep(UNSUBSCRIBE_PAUSE_SECONDS)

    def _forget(self) -> None:
        del self._service.part(_Multicast).subscriptions[self.publisher, self.name]
        self._service.unmonitor(self.publisher, self._publisher_ended)

    def _begin(self, token: int, newest: int) -> None:
        if token == self._token:
            self._newest = newest

    def _answered(self, newest: int) -> None:
        """The subscribing is answered. Usually "begin" came before; in a full mailbox it may have been lost."""
        if self._newest == inf:
            self._newest = newest

    async def _receive(self, sequence: int, value: T) -> None:
        if sequence > self._newest:
            self.missed += sequence - int(self._newest) - 1
            self._newest = sequence
            await self._handler(value)

    async def _publisher_ended(self, _publisher: Address, how: str) -> None:
        if self.active:
            self._forget()
            if self._on_end is not None:
                await self._on_end(how)


class _Multicast:
    """A service's MULTICAST messages: the topics that it publishes, and those that it hears."""

    def __init__(self, service: Service) -> None:
        self.publishers: dict[str, Publisher[Any]] = {}
        self.subscriptions: dict[tuple[Address, str], Subscription[Any]] = {}
        self._service = service
        self._tokens = 0
        service.dispatch("multicast", self._handle)

    def new_token(self) -> int:
        self._tokens += 1
        return self._tokens

    async def _handle(self, session: int, source: Address, word: str, name: str, *rest: Any) -> int | None:
        if word == "message":
            subscription = self.subscriptions.get((source, name))
            if subscription is not None:  # else it was under way when we left
                await subscription._receive(*rest)
            return None
        if word == "subscribe":
            if name not in self.publishers:
                raise NoTopic(f"{type(self._service).__name__} has no topic {name[:64]!r}")
            return self.publishers[name]._join(source, *rest)
        if word == "unsubscribe":
            if name in self.publishers:
                self.publishers[name]._unsubscribed(source, *rest)
            return 0
        if (subscription := self.subscriptions.get((source, name))) is not None:
            if word == "begin":
                subscription._begin(*rest)
            elif word == "end":
                await subscription._publisher_ended(source, "closed the topic")
        return None
