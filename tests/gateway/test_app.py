"""Apps that do not fit together are refused with what to change, and the contract is what was agreed on."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from skyloom import Failed, Service
from skyloom_gateway import Agent, App, Push, Server, Settings, notify, request
from skyloom_gateway.app import AppError, load_app
from skyloom_gateway.contract import contract_of
from tests.gateway.cast import EchoAgent, Hub, NoSuchThing, Shouted, echo, other


class Body(BaseModel):
    text: str


class Fine(Agent):
    @request("app.ask")
    async def ask(self, body: Body) -> Body:
        return body


class Plain(Agent):
    @request("app.ask")  # type: ignore[type-var]  # what is tested
    def ask(self, body: Body) -> None: ...


class Untyped(Agent):
    @request("app.ask")
    async def ask(self, body) -> None: ...  # type: ignore[no-untyped-def]  # what is tested


class Greedy(Agent):
    @request("app.ask")
    async def ask(self, body: Body, more: Body) -> None: ...


class Twice(Agent):
    @request("app.ask")
    async def ask(self) -> None: ...

    @notify("app.ask")
    async def tell(self) -> None: ...


class Elsewhere(Agent):
    @request("chat.ask")
    async def ask(self) -> None: ...


class Shouting(Agent):
    @request("app.ASK")
    async def ask(self) -> None: ...


class Codeless(Failed):
    pass


class Missing(Failed, code="app.missing", kind="not_found"):
    pass


class AlsoMissing(Failed, code="app.missing"):
    pass


class Failing(Agent):
    @request("app.ask", errors=[NoSuchThing, Missing])
    async def ask(self) -> None: ...

    @notify("app.tell", errors=[Missing, Missing])
    async def tell(self) -> None: ...


def failing(*errors: Any) -> type[Agent]:
    class Faulty(Agent):
        @request("app.ask", errors=errors)
        async def ask(self) -> None: ...

    return Faulty


class Schemaless(Agent):
    @request("app.ask")
    async def ask(self, body: Plain) -> None: ...


class Unimported(Agent):
    @request("app.ask")
    async def ask(self, body: OnlyForCheckers) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested


class Nameless(Service):
    pass


class Routeless(Push):
    pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: App("App", agent=Fine), "app 'App': a name has 1 to 32 of a-z0-9_"),
        (lambda: App("gateway", agent=Fine), "is not reserved"),
        (lambda: App("app\n", agent=Fine), "begins with a letter"),
        (lambda: App("app", agent=Plain), "write it as `async def`"),
        (lambda: App("app", agent=Untyped), "give its argument 'body' a type"),
        (lambda: App("app", agent=Greedy), "it takes one body, not 2 arguments"),
        (lambda: App("app", agent=Twice), "route 'app.ask' has two handlers"),
        (lambda: App("app", agent=Elsewhere), "route 'chat.ask' must begin with 'app.'"),
        (lambda: App("app", agent=Shouting), "route 'app.ASK' may hold a-z, 0-9, _ and ., 128 at most"),
        (
            lambda: App("app", agent=failing(ValueError)),
            "Faulty, route 'app.ask', errors: ValueError is no subclass of skyloom.Failed",
        ),
        (lambda: App("app", agent=failing("x")), "errors: str is no subclass of skyloom.Failed"),
        (lambda: App("app", agent=failing(Codeless)), "Codeless has no code of its own: class Codeless(Failed, code="),
        (
            lambda: App("app", agent=failing(Missing, AlsoMissing)),
            "errors: AlsoMissing and Missing have the same code 'app.missing'",
        ),
        (lambda: App("app", agent=Schemaless), "Unable to generate pydantic-core schema for <class"),
        (lambda: App("app", agent=Unimported), "'OnlyForCheckers' is not defined"),
        (lambda: App("app", agent=Fine, pushes=[Shouted]), "push 'echo.shouted' must begin with 'app.'"),
        (lambda: App("app", agent=Fine, pushes=[Routeless]), "push Routeless needs a route"),
        (lambda: App("app", agent=Fine, services=[Nameless]), "service Nameless needs a class attribute `name`"),
    ],
)
def test_what_does_not_fit_together(make: Callable[[], App], said: str) -> None:
    with pytest.raises(AppError) as caught:
        make()
    assert said in str(caught.value)
    assert str(caught.value).startswith("app '")
    assert "\n" not in str(caught.value)


def test_an_app_knows_its_routes() -> None:
    assert echo.routes["echo.say"].is_request
    assert not echo.routes["echo.note"].is_request
    assert echo.routes["echo.wait_beside"].concurrent
    assert echo.routes["echo.nothing"].body is None
    assert echo.services == (Hub,)
    assert (echo.title, echo.page_folder()) == ("Echo", None)


def test_a_route_knows_its_errors_by_their_codes() -> None:
    app = App("app", agent=Failing)
    assert app.routes["app.ask"].errors == (Missing, NoSuchThing)
    assert app.routes["app.tell"].errors == (Missing,)
    assert echo.routes["echo.say"].errors == ()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("chat", "write it as module:attribute"),
        (":app", "write it as module:attribute"),
        (".x:app", "write it as module:attribute"),
        ("a.b:", "write it as module:attribute"),
        ("no_such_module:app", "module 'no_such_module' cannot be imported: No module named"),
        ("json:app", "json.app is nothing, not an App"),
        ("json:loads", "json.loads is a function, not an App"),
    ],
)
def test_apps_that_cannot_be_loaded(spec: str, said: str) -> None:
    with pytest.raises(AppError, match=r"^app '") as caught:
        load_app(spec)
    assert said in str(caught.value)


def test_an_app_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("some_game")
    module.app = echo
    monkeypatch.setitem(sys.modules, "some_game", module)
    assert load_app("some_game:app") is echo


def test_two_apps_of_one_name() -> None:
    with pytest.raises(ValueError, match="two have the same name among echo, echo"):
        Server([echo, App("echo", agent=EchoAgent)], Settings())


def test_the_contract_is_stable_and_changes_with_what_is_agreed() -> None:
    class Wider(Agent):
        @request("app.ask")
        async def ask(self, body: Wide) -> Body:
            return Body(text=body.text)

    class Renamed(Agent):
        @request("app.beg")
        async def ask(self, body: Body) -> Body:
            return body

    class Note(Push, route="app.note"):
        text: str

    first = contract_of([App("app", agent=Fine)]).hash
    assert first == contract_of([App("app", agent=Fine)]).hash
    assert len(first) == len("sha256:") + 64
    hashes = {
        first,
        contract_of([App("app", agent=Wider)]).hash,
        contract_of([App("app", agent=Renamed)]).hash,
        contract_of([App("app", agent=Fine, pushes=[Note])]).hash,
        contract_of([App("app", agent=Fine), other]).hash,
    }
    assert len(hashes) == 5
    assert contract_of([App("app", agent=Fine), other]).hash == contract_of([other, App("app", agent=Fine)]).hash


class Wide(Body):
    more: int = 0
