"""Serving until a signal comes: what ``skyloom gateway`` and ``skyloom node`` have in common."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from skyloom import CannotStart, Failed, Node
from skyloom_gateway.app import AppError
from skyloom_gateway.auth import AuthError
from skyloom_gateway.garbage import collect_seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

log = structlog.get_logger("skyloom.serve")


class Served(Protocol):
    """A server, or a node by itself."""

    node: Node

    def check(self) -> None:
        """Look for what would keep it from starting. Raises AppError, ValueError."""

    async def start(self) -> None:
        """Start."""

    def started(self) -> None:
        """It has started: what there is to do from now on, on the running event loop."""

    async def failed(self) -> str:
        """Wait until it cannot go on; says why."""

    async def stop(self) -> None:
        """Stop in good order."""


S = TypeVar("S", bound=Served)


def run(program: Callable[[], Coroutine[object, object, str | None]]) -> str | None:
    """Run on uvloop where it is installed, which is twice as fast on sockets; else on asyncio."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        pass
    else:
        new_event_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(program())


async def serve(make: Callable[[], S], recordings: Mapping[str, str], announce: Callable[[S], None]) -> str | None:
    """Serve until a signal comes, or it cannot go on: then say why, in one line. `announce` says that it has begun."""
    try:
        served = make()
        served.check()
    except (AppError, AuthError, CannotStart, ValueError) as error:
        return str(error)
    for name, path in recordings.items():
        served.node.record(name, path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, number)
    try:
        await served.start()
    except (CannotStart, Failed) as error:  # of a service, which the node has logged
        return error.message if isinstance(error, Failed) else str(error)
    except Exception as error:  # whatever it is, the operator gets one clear line
        if not isinstance(error, OSError):
            log.error("the server did not start", exc_info=error)
        # Without its number: the listener has put the rest in words.
        text = error.strerror if isinstance(error, OSError) and error.filename is None else None
        return text or str(error)
    served.started()
    collect_seldom()
    announce(served)
    waits = [loop.create_task(stop.wait()), loop.create_task(served.failed())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await served.stop()
    log.info("stopped")
    return served.node.failure


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    """Stop in good order. Only an operator who interrupts a second time will not wait for it; programs that supervise a
    server send SIGTERM more than once.
    """
    if number is signal.SIGINT:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    stop.set()
