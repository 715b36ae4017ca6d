"""What the behaviour suite plays with: two ends, and services of every temper."""

import asyncio
from dataclasses import dataclass, field

from skyloom import Address, CallError, Failed, MemoryNetwork, Node, Response, Service, rpc


class NoSuchRoom(Failed, code="test.no_such_room", kind="not_found"):
    """An error of the application's own."""


class Bespoke(Failed, code="test.bespoke", kind="aborted"):
    """An error that brings its own __init__, which does not call ours."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Basket:
    owner: str
    items: list[str] = field(default_factory=list)


class Callee(Service):
    """Answers, or fails to, in every way there is."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.kept: list[Response] = []
        self.ended = 0

    async def on_start(self) -> None:
        async def raw(session: int, source: Address, *args: object) -> object:
            self.seen.append((session != 0, source, args))
            if args[:1] == ("later",):
                await self.sleep(1)
            if args[:1] == ("silent",):
                return None
            if args[:1] == ("ret",):
                self.ret(*args[1:])
                return None
            return ("got", *args)

        self.dispatch("snax", raw)

    @rpc
    async def echo(self, value: object) -> object:
        return value

    @rpc
    async def add(self, a: int, b: int = 10) -> int:
        return a + b

    @rpc
    async def note(self, value: object) -> None:
        self.seen.append(value)

    @rpc
    async def noted(self) -> list[object]:
        return self.seen

    @rpc
    async def later(self, seconds: float, value: object) -> object:
        try:
            await self.sleep(seconds)
            self.seen.append(value)
            return value
        finally:
            self.ended += 1

    @rpc
    async def fail(self, room: str) -> None:
        raise NoSuchRoom(f"no room {room}", details={"room": room, "near": ["lobby"]})

    @rpc
    async def fail_later(self, room: str) -> None:
        await self.sleep(1)
        await self.fail(room)

    @rpc
    async def bespoke(self) -> None:
        raise Bespoke(42)

    @rpc
    async def stumble(self) -> None:
        raise ZeroDivisionError("by accident")

    @rpc
    async def unsendable(self) -> object:
        return asyncio.Lock()

    @rpc
    async def forget(self) -> None:
        self.response()

    @rpc
    async def forget_later(self) -> None:
        response = self.response()
        await self.sleep(1)
        del response

    @rpc
    async def take_after_wait(self, value: object) -> None:
        await self.sleep(1)
        self.response().ret(value)

    @rpc
    async def keep(self) -> None:
        self.kept.append(self.response())

    @rpc
    async def release(self, value: object) -> None:
        for response in self.kept:
            response.ret(value)

    @rpc
    async def refuse(self, error: str) -> None:
        for response in self.kept:
            response.fail(NoSuchRoom(error, details={"list": [1]}))

    @rpc
    async def twice(self) -> str:
        response = self.response()
        response.ret("first")
        try:
            response.ret("second")
        except RuntimeError as error:
            self.seen.append(type(error).__name__)
        return "third"

    @rpc
    async def pass_on(self, dest: Address) -> None:
        self.forward(dest)

    @rpc
    async def pass_on_later(self, dest: Address) -> None:
        await self.sleep(1)
        self.forward(dest)

    @rpc
    async def remaining(self) -> float:
        return self.request.deadline - self.clock.now()

    @rpc
    async def relay(self, dest: Address, *args: object) -> object:
        return await self.call(dest, "lua", *args)

    @rpc
    async def relay_late(self, seconds: float, dest: Address, *args: object) -> object:
        await self.sleep(seconds)
        return await self.call(dest, "lua", *args)

    @rpc
    async def leave(self, seconds: float) -> str:
        self.exit()
        await self.sleep(seconds)
        return "bye"

    @rpc
    async def leave_at_once(self) -> str:
        self.exit()
        return "bye"

    @rpc
    async def leave_mid(self, seconds: float) -> str:
        await self.sleep(seconds)
        self.exit()
        return "bye"

    @rpc
    async def kill_me(self, seconds: float) -> str:
        if seconds:
            await self.sleep(seconds)
        self.kill(self.address)
        await self.sleep(1)
        return "alive?"

    @rpc
    async def basket(self, basket: Basket) -> Basket:
        basket.items.append("apple")
        self.seen.append(basket)
        return basket


class Serial(Callee):
    serial = True


class Watcher(Service):
    def __init__(self) -> None:
        self.down: list[tuple[Address, str]] = []

    async def on_down(self, address: Address, how: str) -> None:
        self.down.append((address, how))

    @rpc
    async def watch(self, address: Address) -> None:
        self.monitor(address)

    @rpc
    async def unwatch(self, address: Address) -> None:
        self.unmonitor(address)


class Asker(Service):
    """Calls in the name of a service: what comes back is the value or the error."""

    def __init__(self) -> None:
        self.results: list[object] = []

    @rpc
    async def ask(self, dest: Address, timeout: float | None, method: str, *args: object) -> None:
        try:
            self.results.append(await self.call(dest, "lua", method, *args, timeout=timeout))
        except CallError as error:
            self.results.append(error)


@dataclass
class World:
    """`here` calls, `there` has the services called; they may be the same node."""

    here: Node
    there: Node
    network: MemoryNetwork | None

    async def callee(self, cls: type[Callee] = Callee) -> tuple[Address, Callee]:
        address = await self.there.spawn(cls)
        service = self.there.cells[address].service
        assert isinstance(service, Callee)
        return address, service

    async def asker(self) -> tuple[Address, Asker]:
        address = await self.here.spawn(Asker)
        service = self.here.cells[address].service
        assert isinstance(service, Asker)
        return address, service
