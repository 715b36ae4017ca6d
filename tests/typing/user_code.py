"""User code as it should be written: all of it type-checks, and no `type: ignore` in it is unused."""

from collections.abc import AsyncIterator
from typing import assert_type

from skyloom import Address, Answer, Failed, Node, Response, Service, Timer, rpc
from skyloom_gateway import Agent, Push, notify, request
from skyloom_gateway.agent import Route
from skyloom_gateway.testing import Player


class RoomNotFound(Failed, code="typing.room_not_found", kind="not_found"):
    pass


class UserService(Service):
    name = "USER_SERVICE"
    serial = True

    async def on_start(self) -> None:
        self.users = {42: "Ada"}

    @rpc
    async def get_user(self, user_id: int) -> str:
        return self.users[user_id]

    @rpc
    async def find(self, name: str, limit: int = 10) -> list[int]:
        return [user_id for user_id, user in self.users.items() if user == name][:limit]


class Caller(Service):
    async def on_down(self, address: Address, how: str) -> None:
        assert_type(how, str)

    @rpc
    async def go(self) -> None:
        users = await self.query("USER_SERVICE", wait=1.0)
        assert_type(users, Address)
        proxy = UserService.at(self, users, timeout=2.0)
        assert_type(proxy, UserService)
        assert_type(await proxy.get_user(42), str)
        assert_type(await proxy.find("Ada", limit=1), list[int])
        assert_type(self.timeout(1.0, self.tick, 1), Timer)
        assert_type(self.response(), Response)
        answers = self.select({city: proxy.get_user(1) for city in ("a", "b")}, timeout=1)
        assert_type(answers, AsyncIterator[Answer[str, str]])
        async for answer in answers:
            assert_type(answer.value, str | None)
            assert_type(answer.result(), str)
        self.send(users, "lua", "log", 1)

    async def tick(self, number: int) -> None: ...


class Guarded(Agent):
    def is_admin(self) -> bool:
        return "admin" in self.claims.get("roles", [])

    async def may_play(self) -> bool:
        return self.user != "eve"

    @request("guarded.kick", allow=is_admin)
    async def kick(self) -> None: ...

    @request("guarded.play", allow=may_play, concurrent=True)
    async def play(self) -> str:
        return self.user

    @request("guarded.text", allow=is_admin.__name__)  # type: ignore[arg-type]  # a method, not its name
    async def text(self) -> None: ...

    @notify("guarded.note", allow=lambda agent: agent.user == "ada")
    async def note(self) -> None: ...

    async def on_authorize(self, route: Route) -> bool:
        assert_type(route.name, str)
        return await super().on_authorize(route)


class Over(Push, route="guarded.over"):
    winner: str | None = None


async def watch(player: Player) -> None:
    over = await player.expect_push(Over, where=lambda over: over.winner)
    assert_type(over, Over)
    assert_type(over.winner, str | None)
    await player.expect_push("guarded.over", where=lambda body: body["winner"])


async def main() -> None:
    async with Node("game-1") as node:
        assert_type(await node.spawn(UserService), Address)


async def wrong(self: Service, users: Address) -> None:
    await UserService.at(self, users).get_user("x")  # type: ignore[arg-type]  # a str is no user id
    await UserService.at(self, users).get_user()  # type: ignore[call-arg]  # one is missing
    await UserService.at(self, users).nothing()  # type: ignore[attr-defined]  # there is no such method
    number: int = await UserService.at(self, users).get_user(1)  # type: ignore[assignment]  # it answers a str
    self.send(42, "lua", "x")  # type: ignore[arg-type]  # a number is no address
    await self.call(users, "lua", "x", timeout="1")  # type: ignore[arg-type]  # seconds are a number
    await self.spawn(UserService())  # type: ignore[arg-type]  # the class, not an instance
    self.timeout(1.0, print)  # type: ignore[arg-type]  # the callback is async
    self.fork(number)  # type: ignore[arg-type]  # a coroutine is needed
    raise RoomNotFound(number)  # type: ignore[arg-type]  # the message is text


@rpc  # type: ignore[arg-type]  # rpc methods are async
def not_async(self: Service) -> int:
    return 1
