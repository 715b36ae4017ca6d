"""What a supervisor is told of a child: which service, when to start it anew, how long it may take to stop.

What to write::

    permanent(World)  # always started anew
    transient(Match, 7, players=4)  # started anew after a crash; it may end by itself
    temporary(Bot)  # never started anew
    transient(Match, 8).but(id="final", stop_seconds=1.0)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyloom.message.address import Address
    from skyloom.service.service import Service

P = ParamSpec("P")

Restart = Literal["permanent", "transient", "temporary"]
State = Literal["running", "restarting", "ended"]


@dataclass(frozen=True, slots=True)
class Child:
    """One child as it is to be; made by `permanent`, `transient` and `temporary`.

    `id` tells it from its siblings; unless given it is the service's `name`, or its class's name and a number.
    `stop_seconds` is what its handlers and `on_stop` may take before it is killed; the service's own unless given.
    """

    service: type[Service]
    restart: Restart
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    stop_seconds: float | None = None

    def but(self, *, id: str | None = None, stop_seconds: float | None = None) -> Child:
        """The same with another `id`, or another `stop_seconds`. Raises ValueError for no time at all."""
        if stop_seconds is not None and not stop_seconds > 0:
            raise ValueError(f"stop_seconds: more than 0 are needed, got {stop_seconds}")
        return replace(
            self,
            id=self.id if id is None else id,
            stop_seconds=self.stop_seconds if stop_seconds is None else stop_seconds,
        )


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """How a child fares, for people and programs: a value that may be sent.

    `state` is "running", "restarting" or "ended" (a transient one that exited), `restarts` how often it came back.
    """

    id: str
    service: str
    restart: Restart
    state: State
    address: Address | None
    restarts: int


def permanent(service: Callable[P, Service], *args: P.args, **kwargs: P.kwargs) -> Child:
    """A child that is started anew whenever it has ended. The arguments are those of its class."""
    return _child(service, "permanent", args, kwargs)


def transient(service: Callable[P, Service], *args: P.args, **kwargs: P.kwargs) -> Child:
    """A child that is started anew unless it exited by itself: it has an end, such as a match."""
    return _child(service, "transient", args, kwargs)


def temporary(service: Callable[P, Service], *args: P.args, **kwargs: P.kwargs) -> Child:
    """A child that is never started anew, and forgotten once it has ended."""
    return _child(service, "temporary", args, kwargs)


def _child(
    service: Callable[..., Service], restart: Restart, args: tuple[object, ...], kwargs: dict[str, object]
) -> Child:
    if not isinstance(service, type):
        raise TypeError(f"{restart}: a subclass of Service is needed, not a {type(service).__name__}")
    return Child(service, restart, args, kwargs)
