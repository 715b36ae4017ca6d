"""One console's connection: a command as JSON in, its answer as JSON out, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from skyloom import CallError
from skyloom_gateway.admin.console import CALL_SECONDS
from skyloom_gateway.admin.listener import ANSWER_BYTES_MAX
from skyloom_gateway.session.bucket import Bucket

if TYPE_CHECKING:
    import asyncio

    from skyloom import Service
    from skyloom_gateway.listener import Link

COMMANDS_PER_SECOND: Final = 20.0
COMMANDS_BURST: Final = 100
WORDS_MAX: Final = 64


class Command(BaseModel):
    """What a console sends: the words of a command line."""

    model_config = ConfigDict(extra="forbid")
    words: Annotated[list[str], Field(min_length=1, max_length=WORDS_MAX)]


class Line:
    """A `Receiver` for the admin port's links: asks the service CONSOLE, and tells what it answered.

    An answer is ``{"result": ...}`` or ``{"error": "..."}``.
    """

    def __init__(self, caller: Service, link: Link) -> None:
        self._caller = caller
        self._link = link
        self._bucket = Bucket(COMMANDS_PER_SECOND, COMMANDS_BURST)
        self._running: asyncio.Task[None] | None = None

    def received(self, data: bytes) -> None:
        """`Receiver.received`: a command."""
        wait = self._bucket.take(self._caller.clock.now())
        if self._running is not None:
            self._tell({"error": "one command at a time: wait for the answer"})
        elif wait:
            self._tell({"error": f"too many commands: wait {wait:.1f} s"})
        else:
            try:
                command = Command.model_validate_json(data)
            except ValidationError:
                self._tell({"error": f'send {{"words": [...]}}, with 1 to {WORDS_MAX} words'})
            else:
                self._running = self._caller.fork(self._run(command.words))

    async def _run(self, words: list[str]) -> None:
        try:
            told: dict[str, object] = {
                "result": await self._caller.call("CONSOLE", "lua", "run", words, timeout=2 * CALL_SECONDS)
            }
        except CallError as error:
            told = {"error": error.message}
        finally:
            self._running = None
        self._tell(told)

    def _tell(self, told: dict[str, object]) -> None:
        answer = to_json(told, inf_nan_mode="strings")
        if len(answer) > ANSWER_BYTES_MAX:
            answer = to_json(
                {"error": f"the answer has {len(answer):,} bytes, over {ANSWER_BYTES_MAX:,}: ask for less"}
            )
        self._link.send(answer)

    def closed(self, code: int, reason: str) -> None:
        """`Receiver.closed`: the operator is gone."""
        if self._running is not None:
            self._running.cancel()
