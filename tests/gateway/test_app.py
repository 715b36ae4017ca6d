"""Apps that do not fit together are refused with what to change, and the contract is what was agreed on."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from skyloom import Failed, Service, rpc
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


class Selfless(Agent):
    @request("app.ask")
    async def ask(body: Body) -> None: ...  # type: ignore[misc]  # noqa: N805 - what is tested


class Bare(Agent):
    @request("app.ask")
    async def ask() -> None: ...  # type: ignore[misc]  # what is tested


class Closed(Agent):
    def __init__(self) -> None: ...


class Numbered(Push, route=3):
    text: str


class Nameless(Service):
    pass


class Named(Service):
    name = "NAMED"


class Namesake(Service):
    name = "NAMED"


class Wanting(Service):
    name = "WANTING"

    def __init__(self, path: str) -> None: ...


class Misplaced(Service):
    name = "MISPLACED"

    @request("app.ask")
    async def ask(self) -> None: ...


class Hiding(Agent):
    @request("app.push")
    async def push(self) -> None: ...  # type: ignore[override]  # what is tested


def wrongly(**given: Any) -> Callable[[], App]:
    return lambda: App("app", **{"agent": Fine, **given})


class Routeless(Push):
    pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: App("App", agent=Fine), "app 'App': a name is text of 1 to 32 of a-z0-9_"),
        (lambda: App("gateway", agent=Fine), "the gateway needs this name itself; take another one"),
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
        (
            lambda: App("app", agent=Unimported),
            "Unimported.ask ('app.ask'): name 'OnlyForCheckers' is not defined; import it at run time",
        ),
        (
            lambda: App("app", agent=Selfless),
            "Selfless.ask ('app.ask'): its first argument is self, and then comes the",
        ),
        (lambda: App("app", agent=Bare), "Bare.ask ('app.ask'): its first argument is self"),
        (
            lambda: App("app", agent=Closed),
            "agent Closed: too many positional arguments; it is made with client, user and claims: pass them on",
        ),
        (lambda: App("app", agent=Fine, pushes=[Numbered]), "push's route is an int, not text"),
        (lambda: App("app", agent=Fine, pushes=[Shouted]), "push 'echo.shouted' must begin with 'app.'"),
        (lambda: App("app", agent=Fine, pushes=[Routeless]), "push Routeless needs a route"),
        (lambda: App("app", agent=Fine, services=[Nameless]), "service Nameless needs a class attribute `name`"),
        (wrongly(agent=3), "app 'app': agent: an int is no subclass of Agent"),
        (wrongly(agent=Named), "agent: the class Named is no subclass of Agent"),
        (wrongly(services=Named), "services is the class Named, not a list of classes"),
        (wrongly(services=[Named()]), "services: a Named is no subclass of Service; give the class itself: Named"),
        (wrongly(services=[Fine, None]), "services: None is no subclass of Service"),
        (wrongly(pushes=[Body]), "pushes: the class Body is no subclass of Push"),
        (wrongly(watchdog=Named), "watchdog: the class Named is no subclass of Watchdog"),
        (lambda: App("app", agent=Fine, services=[Named, Namesake]), "Namesake and Named have the same name 'NAMED'"),
        (
            lambda: App("app", agent=Fine, services=[Wanting]),
            "service Wanting: missing a required argument: 'path'; it is made without any: let it read what it",
        ),
        (lambda: App("app", agent=Fine, services=[Misplaced]), "service Misplaced: 'ask' is a route; routes are the"),
        (
            lambda: App("app", agent=Hiding),
            "Hiding.push ('app.push'): it hides 'push' of every agent; rename the method",
        ),
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
        ("game.py:app", "write it as module:attribute, the module as in `import module`"),
        ("./game:app", "write it as module:attribute"),
        ("no_such_module:app", "module 'no_such_module' cannot be imported: no 'no_such_module' is installed, nor in "),
        ("json.no.such:app", "module 'json.no.such' cannot be imported: no 'json.no' is installed, nor in the folder "),
        ("json:app", "module 'json' has no 'app' that is an App; nothing there is one"),
        ("json:loads", "json.loads is a function, not an App; nothing there is one"),
        ("json:JSONDecoder", "json.JSONDecoder is the class JSONDecoder, not an App"),
        ("tests.gateway.game:ap", "has no 'ap' that is an App; did you mean app or other?"),
    ],
)
def test_apps_that_cannot_be_loaded(spec: str, said: str) -> None:
    with pytest.raises(AppError, match=r"^app '") as caught:
        load_app(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ndef f(:", "module 'broken' cannot be imported: invalid syntax (HERE, line 2)"),
        (
            "\nimport no_such",
            "ModuleNotFoundError: No module named 'no_such' (HERE, line 2; `python -c 'import broken'`",
        ),
        (
            "from skyloom_gateway import request\n@request\nasync def ask(self): ...",
            "TypeError: @request needs the route's name: write @request('<app>.<name>') (HERE, line 2; `python",
        ),
        (
            "from skyloom import CannotStart\nraise CannotStart('no map: set MAP')",
            "module 'broken' cannot be imported: no map: set MAP",
        ),
        ("1 / 0", "ZeroDivisionError: division by zero (HERE, line 1; `python -c 'import broken'` shows more)"),
        (
            "from skyloom_gateway import App\napp = App('x', agent=3)",
            "app 'x': agent: an int is no subclass of Agent",
        ),
    ],
)
def test_a_module_that_fails_says_where(code: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AppError, match=r"^app '") as caught:
        load_app("broken:app")
    assert said.replace("HERE", str(tmp_path / "broken.py")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_decorator_without_its_route() -> None:
    for decorator, name in ((request, "@request"), (notify, "@notify")):
        with pytest.raises(TypeError, match=f"{name} needs the route's name: write {name}"):

            @decorator  # type: ignore[arg-type]  # what is tested
            async def ask(self: Agent) -> None: ...


def test_a_decorator_that_is_given_the_wrong_thing() -> None:
    with pytest.raises(TypeError, match=r"@request\('app.ask'\): allow is a str, not a method that says who may"):
        request("app.ask", allow="admin")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match=r"@notify\('app.ask'\): errors is the class Missing, not a list of classes"):
        notify("app.ask", errors=Missing)  # type: ignore[arg-type]  # what is tested


def test_an_rpc_that_hides_what_every_service_has() -> None:
    with pytest.raises(TypeError, match="@rpc 'Radio.send': it hides 'send' of every service; rename the method"):

        class Radio(Service):
            @rpc
            async def send(self, text: str) -> None: ...  # type: ignore[override]  # what is tested


def test_two_apps_with_two_services_of_one_name() -> None:
    class Other(Agent): ...

    first, second = App("app", agent=Fine, services=[Named]), App("b", agent=Other, services=[Namesake])
    with pytest.raises(AppError, match="apps app, b: two services are named 'NAMED'; change one"):
        Server([first, second], Settings())
    Server([first, App("b", agent=Other, services=[Named])], Settings())  # the same one may be shared


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
