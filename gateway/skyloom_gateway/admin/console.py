"""The console: a service that answers an operator's commands by asking others (skynet's debug_console).

    operator --words--> CONSOLE --DEBUG--> a node's root, or the service itself
                           `---- lua ----> GATE, and whom `call` names

A result is plain data: text, a dict of fields, or ``{"rows": [...], "note": ...}``, which is a table.
"""

from __future__ import annotations

import gc
import inspect
import json
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, cast

import structlog

from skyloom import Address, CallError, Failed, Service, UnknownName, rpc
from skyloom.node.debug import LISTED_MAX, ROOT_HANDLE
from skyloom_gateway.admin.memory import memory
from skyloom_gateway.admin.shown import shown
from skyloom_gateway.log import LEVELS, set_level

INFO_SECONDS: Final = 1.0
"""How long a service may take to say what it has to add."""

CALL_SECONDS: Final = 5.0
"""How long a command may wait for a service."""

LETTERS_SHOWN: Final = 10

_SHORT: Final = re.compile(r":([0-9a-f]{1,8})\Z")

log = structlog.get_logger("skyloom.console")

Run = Callable[..., Coroutine[Any, Any, object]]


class CommandFailed(Failed, code="skyloom.command_failed", kind="invalid_argument"):
    """A command cannot be done; its message says why, for the operator."""


@dataclass(frozen=True, slots=True)
class _Command:
    run: Run
    usage: str
    help: str


_COMMANDS: Final[dict[str, _Command]] = {}


def _command(usage: str, help: str) -> Callable[[Run], Run]:  # noqa: A002 - what it is
    """Make a method a command; its name is the first word of `usage`."""

    def add(run: Run) -> Run:
        _COMMANDS[usage.partition(" ")[0]] = _Command(run, usage, help)
        return run

    return add


class Console(Service):
    """Runs commands, one after the other or at once; whoever may send it messages may do all that they can."""

    name = "CONSOLE"

    @rpc
    async def run(self, words: list[str]) -> object:
        """Run the command of these words. Raises CommandFailed."""
        name, *args = words
        command = _COMMANDS.get(name)
        if command is None:
            raise CommandFailed(f"no command {name[:64]!r}; `help` lists them")
        try:
            inspect.signature(command.run).bind(self, *args)
        except TypeError:
            raise CommandFailed(f"write it as: {command.usage}") from None
        try:
            return await command.run(self, *args)
        except CommandFailed:
            raise
        except CallError as error:
            raise CommandFailed(str(error)) from None

    # -- looking ---------------------------------------------------------------------------------------------

    @_command("help [COMMAND]", "this list, or one command")
    async def help(self, name: str | None = None) -> object:
        if name is not None and name not in _COMMANDS:
            raise CommandFailed(f"no command {name[:64]!r}; `help` lists them")
        found = [_COMMANDS[name]] if name is not None else _COMMANDS.values()
        return _table([{"command": command.usage, "does": command.help} for command in found])

    @_command("list [WORD]", "services: address, class, names, state; those whose class or name has WORD")
    async def list_services(self, word: str = "") -> object:
        return _table(
            [
                {"address": str(one.address), "service": one.service, "names": " ".join(one.names), "state": one.state}
                for one in await self._services(word)
            ]
        )

    @_command("stat [WORD]", "what waits in services and how much they have done")
    async def stat(self, word: str = "") -> object:
        rows = [cast("dict[str, Any]", shown(one)) for one in await self._services(word)]
        hidden = ("names", "state", "mailbox_messages_max")
        return _table([{key: value for key, value in row.items() if key not in hidden} for row in rows])

    @_command("names", "names and the services that have them")
    async def names(self) -> object:
        found = await self._ask(self.address, "names")
        return _table([{"name": name, "address": str(address)} for name, address in found])

    @_command("info [ADDRESS]", "a service's state and what it adds of its own; of the node without ADDRESS")
    async def info(self, address: str | None = None) -> object:
        if address is None:
            return await self._node_info()
        found = await self._find(address)
        fields: dict[str, object] = shown(await self._ask(found, "stat", found.handle))
        try:
            own = await self.call(found, "debug", "info", timeout=INFO_SECONDS)
        except CallError as error:
            own = {"silent": str(error)}
        return fields | cast("dict[str, object]", shown(own))

    async def _node_info(self) -> object:
        status = cast("dict[str, Any]", shown(await self._ask(self.address, "node")))
        counters, services = status.pop("counters"), status.pop("services")
        status["services"] = sum(each["services"] for each in services.values())
        return {"version": version("skyloom")} | status | counters | await self._gate_info()

    async def _gate_info(self) -> dict[str, object]:
        try:
            found: dict[str, object] = await self.call("GATE", "debug", "info", timeout=INFO_SECONDS)
        except CallError as error:
            return {"gate": str(error)}
        return found

    @_command("task ADDRESS", "what a service has under way, and where its handlers wait")
    async def task(self, address: str) -> object:
        found = await self._find(address)
        stacks = cast("list[dict[str, object]]", shown(await self._ask(found, "task", found.handle)))
        return _table(stacks, "" if stacks else "nothing is under way")

    @_command("letters [COUNT]", "the newest dead letters, with the traceback of those that broke their handler")
    async def letters(self, count: str = str(LETTERS_SHOWN)) -> object:
        if not count.isdecimal():
            raise CommandFailed("COUNT is a whole number")
        rows = cast("list[dict[str, Any]]", shown(await self._ask(self.address, "letters", int(count))))
        for row in rows:
            row["traceback"] = row["traceback"].splitlines()
        return _table(rows, "" if rows else "no message came to a bad end")

    @_command("sessions [USER]", "how many sessions there are; or those of one user")
    async def sessions(self, user: str | None = None) -> object:
        if user is None:
            return await self._gate_info()
        rows = await self.call("GATE", "lua", "sessions_of", user)
        return _table(rows, "" if rows else "no session")

    @_command("mem", "memory of the process, and what the garbage collector has done")
    async def mem(self) -> object:
        return memory()

    # -- doing -----------------------------------------------------------------------------------------------

    @_command("call ADDRESS METHOD [JSON...]", "call an rpc method of a service, and show its answer")
    async def call_method(self, address: str, method: str, *args: str) -> object:
        values = []
        for arg in args:
            try:
                values.append(json.loads(arg))
            except ValueError:
                raise CommandFailed(f"{arg[:64]!r} is no JSON; a text is written as '\"text\"'") from None
        found = await self._find(address)
        log.info("console: call", service=str(found), method=method)
        return {"answer": shown(await self.call(found, "lua", method, *values, timeout=CALL_SECONDS))}

    @_command("kill ADDRESS", "end a service at once; its supervisor, if it has one, starts it anew")
    async def kill_service(self, address: str) -> object:
        found = await self._find(address)
        if found.handle == ROOT_HANDLE:
            raise CommandFailed("this is the node itself: stop its process instead")
        log.warning("console: kill", service=str(found))
        if not self.kill(found):
            raise CommandFailed(f"no service at {found}")
        return f"killed {found}"

    @_command("end session SESSION | end user USER", "throw a client out, or all clients of a user")
    async def end(self, what: str, who: str) -> object:
        if what not in ("session", "user"):
            raise CommandFailed(f"write it as: {_COMMANDS['end'].usage}")
        log.warning("console: end", **{what: who})
        ended = int(await self.call("GATE", "lua", f"end_{what}", who, "ended by an operator"))
        if not ended:
            raise CommandFailed(f"no session of this {what}" if what == "user" else "no such session")
        return f"ended {ended} session{'s' if ended > 1 else ''}"

    @_command(f"log {' | '.join(LEVELS)}", "log from this severity on, until the process ends")
    async def log_from(self, level: str) -> object:
        if level not in LEVELS:
            raise CommandFailed(f"the levels are {', '.join(LEVELS)}")
        set_level(level)
        log.warning("console: log", level=level)
        return f"logging from {level} on"

    @_command("gc", "collect garbage now; everybody waits meanwhile")
    async def collect_garbage(self) -> object:
        began = self.node.stopwatch()
        found = gc.collect()
        return {"unreachable_objects": found, "seconds": round(self.node.stopwatch() - began, 4)}

    # -- whom to ask -----------------------------------------------------------------------------------------

    async def _ask(self, about: Address, *words: object) -> Any:
        """Ask the root of that address's node."""
        return await self.call(Address(about.node, ROOT_HANDLE), "debug", *words, timeout=CALL_SECONDS)

    async def _services(self, word: str) -> list[Any]:
        return cast("list[Any]", await self._ask(self.address, "list", word))

    async def _find(self, text: str) -> Address:
        """The service that an operator means: an address as printed, a handle of this node as ":2a", or a name."""
        if short := _SHORT.match(text):
            return Address(self.node.name, int(short[1], 16))
        if text.startswith(":"):
            try:
                return Address.parse(text)
            except ValueError as error:
                raise CommandFailed(str(error)) from None
        try:
            return await self.query(text)
        except UnknownName:
            raise CommandFailed(
                f"no service is named {text[:64]!r}; give a name, or an address like :0000002a or :2a"
            ) from None


def _table(rows: list[dict[str, Any]], note: str = "") -> dict[str, object]:
    if len(rows) >= LISTED_MAX:
        note = f"the first {LISTED_MAX:,}; a WORD of the class or name finds others"
    return {"rows": rows, "note": note}
