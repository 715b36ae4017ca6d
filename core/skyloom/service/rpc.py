"""Remote procedure calls: methods that other services may call."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from skyloom.message.address import Address
    from skyloom.service.service import Service

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__skyloom_rpc__"


def rpc(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let other services call this method: ``await self.call(address, "lua", "method", ...)``.

    Returning is answering, raising is failing: a `Failed` reaches the caller as it is, any other exception as
    Failed with code ``skyloom.internal`` while its traceback stays in this service's log. The method must be
    ``async def``, and its arguments travel by position. Raises TypeError otherwise.
    """
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"@rpc {getattr(method, '__qualname__', method)!r}: write it as `async def`")
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            raise TypeError(
                f"@rpc {method.__qualname__!r}: {parameter.name!r} could not be given; arguments travel by position"
            )
    setattr(method, _MARK, True)
    return method


def rpc_methods(cls: type) -> dict[str, Callable[..., Coroutine[Any, Any, Any]]]:
    """The rpc methods of a class by name, those of its bases included."""
    found = {}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if getattr(method, _MARK, False):
            found[name] = method
    return found


class Proxy:
    """Stands for a service elsewhere: its rpc methods call that service. Made by `Service.at`."""

    __slots__ = ("_address", "_caller", "_cls", "_timeout")

    def __init__(self, cls: type[Service], caller: Service, address: Address | str, timeout: float | None) -> None:
        self._cls, self._caller, self._address, self._timeout = cls, caller, address, timeout

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name not in self._cls.rpc_methods:
            raise AttributeError(f"{self._cls.__name__}.{name} is not an @rpc method, so it cannot be called from here")
        caller, address, timeout = self._caller, self._address, self._timeout

        method = self._cls.rpc_methods[name]

        def call(*args: object, **named: object) -> Coroutine[Any, Any, Any]:
            if named:
                bound = inspect.signature(method).bind(None, *args, **named)
                bound.apply_defaults()
                args = bound.args[1:]
            return caller.call(address, "lua", name, *args, timeout=timeout)

        return call

    def __repr__(self) -> str:
        return f"<{self._cls.__name__} at {self._address}>"
