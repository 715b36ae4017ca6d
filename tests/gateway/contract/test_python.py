"""The Python client that a contract makes: it talks to a server, and nothing in a contract breaks its code."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typer.testing import CliRunner

from skyloom_chat import app as chat
from skyloom_gateway import Server, Settings
from skyloom_gateway.cli import main
from skyloom_gateway.client import RequestFailed, connect
from skyloom_gateway.contract import Contract, ErrorCode, Operation, contract_of
from skyloom_gateway.contract.python import python
from skyloom_gateway.contract.schema import REFERENCE, Schema
from skyloom_gateway.settings import GatewaySettings
from skyloom_shop import app as shop
from tests.examples import examples
from tests.gateway.cast import echo
from tests.gateway.contract.game import app as game
from tests.gateway.contract.schemas import named, schemas

ROOT = Path(__file__).resolve().parents[3]
# How people use the written client; mypy sees the mistakes, and each `ignore` that ignores nothing.
USE = """
from datetime import datetime
from typing import Literal, assert_type
from uuid import UUID

from game_client import Colour, Done, ErrorCode, GameClient, Hit, Orders, Point, Rules, Tree, Turned, Walk

from skyloom_gateway.client import Client


async def use(client: Client) -> None:
    game = GameClient(client)
    orders = Orders(orders=[Walk(to=(1, 2)), Hit(target=UUID(int=1), force=2)], class_="rook")
    done = await game.turn(orders, timeout=1.0)
    assert_type(done, Done)
    assert_type(done.at, datetime)
    side: Literal["red", "blue"] = done.side
    assert_type(await game.map(Point(x=1)), Tree)
    assert_type(await game.count([1, 2]), dict[str, int])
    await game.fail()
    await game.ping(Rules(open=True))
    async for push in game.turned_pushes():
        assert_type(push.body, Turned)
        winner: Colour | None = push.body.winner
    code: ErrorCode = "game.cheating"


async def wrong(game: GameClient) -> None:
    await game.turn()  # type: ignore[call-arg]  # a body is needed
    await game.turn(Point())  # type: ignore[arg-type]  # it is no Orders
    Orders()  # type: ignore[call-arg]  # a field is missing
    Rules(open="x", shut=1)  # type: ignore[arg-type,call-arg]  # no truth, and no such field
    (await game.rules()).nothing  # type: ignore[union-attr]  # there is no such field
    game.nothing()  # type: ignore[attr-defined]  # there is no such route
    code: ErrorCode = "game.odd"  # type: ignore[assignment]  # there is no such error
"""
ENCODINGS = ["json", "msgpack"]


def load(source: str, name: str) -> Any:
    module = types.ModuleType(name)
    sys.modules[name] = module  # where pydantic looks for the names of annotations
    exec(compile(source, name, "exec"), vars(module))
    return module


@pytest.fixture(scope="module")
def client_module() -> Iterator[Any]:
    yield load(python(contract_of([game])), "game_client_under_test")
    del sys.modules["game_client_under_test"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_it_talks_to_a_server(client_module: Any, encoding: Any) -> None:
    made = client_module
    settings = Settings(gateway=GatewaySettings(port=0, tcp_port=None))
    async with Server([game], settings) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(url, auth={"scheme": "guest", "name": "ada"}, encoding=encoding) as client:
            client_of_game = made.GameClient(client)
            orders = made.Orders(orders=[made.Walk(to=(1, 2)), made.Hit(target=UUID(int=1))], class_="rook")
            done = await client_of_game.turn(orders)
            assert (type(done), done.turn, done.at.year, done.side, done.rank) == (made.Done, 1, 2026, "red", None)
            tree = await client_of_game.map(made.Point(y=2))
            # The server saw y and no x: what is left out is not sent.
            assert (tree.name, tree.behind[0].name, tree.behind[0].behind) == ("[('y', 2.0)]", "attic", [])
            assert await client_of_game.count([1, 2, 3]) == {"count": 3}
            assert await client_of_game.rules() == {}
            with pytest.raises(RequestFailed, match="bob's turn") as failed:
                await client_of_game.fail(timeout=1)
            assert failed.value.code == "game.not_your_turn"
            pushes = client_of_game.turned_pushes()
            await client_of_game.ping(made.Rules(open=True))
            push = (await anext(pushes)).body
            assert (type(push), push.turn, push.winner) == (made.Turned, 2, "blue")
            assert client.contract == server.contract.hash == made.CONTRACT


def test_it_says_what_the_routes_say(client_module: Any) -> None:
    made = client_module
    assert made.Orders.__doc__ == 'A turn\'s orders. */ // """ and \\ are no end of it.'
    words = made.GameClient.turn.__doc__
    assert words.startswith("Give orders.\n\n")
    assert "- game.not_your_turn (failed_precondition): Somebody else has to move first.\n" in words
    assert "- game.cheating (permission_denied)\n" in words
    assert made.Orders(orders=[]).model_dump(by_alias=True) == {"orders": []}
    assert made.Hit(target=UUID(int=1)).model_dump(mode="json", by_alias=True)["kind"] == "hit"


def contract(schemas: dict[str, Schema], body: Schema, *, route: str = "game.go", words: str = "") -> Contract:
    error = ErrorCode("game.odd", "internal", False, "Odd", words)
    operation = Operation(route, "request", body, body, {error.code: error}, words)
    push = Operation(route, "push", body, None, {}, words)
    return Contract(words, {"game": words}, {route: operation}, {route: push}, schemas, {})


NASTY = [
    '"',
    '""',
    '"""',
    '""""',
    "\\",
    '\\"',
    "ends in \\",
    "a\nb",
    "*/ alert() /*",
    "\x00\x1b[2J",
    "\u2028",
    "#",
    "'''",
]


@pytest.mark.parametrize("words", NASTY)
def test_words_stay_words(words: str) -> None:
    thing = {"type": "object", "description": words, "properties": {"a": {"type": "string", "description": words}}}
    source = python(contract({"game.A": thing}, {"$ref": REFERENCE + "game.A"}, words=words))
    tree = ast.parse(source)
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["_Model", "A", "GameClient"]
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "A")
    said = ast.get_docstring(model, clean=False) or ""
    assert "".join(said.split()) == "".join(words.replace("\x00\x1b", "").split())
    load(source, "words_under_test")


FIELDS = [
    "class",
    "def",
    "None",
    "int",
    "str",
    "list",
    "Any",
    "Field",
    "model_config",
    "model_fields",
    "copy",
    "json",
    "_x",
]
FIELDS += [
    "__init__",
    "1st",
    "a-b",
    "a.b",
    "a b",
    "self",
    "id",
    "time",
    "Thing",
    "é",
    "",
    "a\n=1",
    "$ref",
    "constructor",
]


def test_fields_of_any_name() -> None:
    thing = {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in FIELDS},
        "required": [*FIELDS[:5], "id", "time"],
    }
    made = load(python(contract({"game.Thing": thing}, {"$ref": REFERENCE + "game.Thing"})), "fields_under_test")
    value = {name: place for place, name in enumerate(FIELDS)}
    thing_made = made.Thing.model_validate(value)
    assert thing_made.model_dump(by_alias=True) == value
    assert (thing_made.id, thing_made.time, thing_made.class_) == (value["id"], value["time"], value["class"])


def test_types_of_any_name_and_of_one_name() -> None:
    keys = [
        "game.int",
        "game.Client",
        "game.GameClient",
        "game.Any",
        "game.A-Output",
        "game.AOutput",
        "game.9",
        "game._",
    ]
    each: Schema = {"type": "object", "properties": {"next": {"$ref": REFERENCE + "game.int"}}}
    source = python(contract(dict.fromkeys(keys, each), {"$ref": REFERENCE + "game.Any"}))
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert len(set(classes)) == len(classes) == len(keys) + 2
    load(source, "names_under_test")


def test_models_of_two_apps_with_one_name() -> None:
    both = python(contract_of([chat, echo]))
    assert "class ChatMessage(_Model)" in both
    made = load(python(contract({"a.Text": {"type": "string"}, "b.Text": {"type": "integer"}}, {})), "two_under_test")
    assert TypeAdapter(made.AText).validate_python("x") == "x"
    assert TypeAdapter(made.BText).validate_python(1) == 1


@pytest.mark.parametrize("route", ["game.class", "game.client", "game.a.b", "game.int", "game.1", "game.__init__"])
def test_routes_of_any_name(route: str) -> None:
    made = load(python(contract({}, {"type": "integer"}, route=route)), "routes_under_test")
    own = [name for name in vars(made.GameClient) if not name.startswith("_")]
    assert len(own) == 2
    assert callable(made.GameClient.__init__)


@settings(examples(100), suppress_health_check=list(HealthCheck))
@given(schemas(), named())
def test_any_schema_makes_code_that_loads(schema: Schema, names: dict[str, Schema]) -> None:
    everything = {"game.Root": schema, **names}
    made = load(python(contract(everything, {"$ref": REFERENCE + "game.Root"})), "any_under_test")
    TypeAdapter(made.Root).json_schema()


@settings(examples(50), suppress_health_check=list(HealthCheck))
@given(st.text(), st.text(min_size=1))
def test_any_text_makes_code_that_compiles(words: str, field: str) -> None:
    thing = {"type": "object", "description": words, "properties": {field: {"enum": [words, field]}}}
    compile(python(contract({"game.A": thing}, {"$ref": REFERENCE + "game.A"}, words=words)), "x", "exec")


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_what_is_written_type_checks_and_mistakes_in_its_use_do_not(tmp_path: Path) -> None:
    written = tmp_path / "game_client.py"
    done = CliRunner().invoke(main, ["schema", "tests.gateway.contract.game:app", "--python", str(written)])
    assert (done.exit_code, done.stdout) == (0, "")
    (tmp_path / "use_game.py").write_text(USE)
    wide = tmp_path / "wide_client.py"
    wide.write_text(python(contract_of([chat, echo, shop])))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", ""]
    checked = subprocess.run(
        [*command, "game_client.py", "use_game.py", "wide_client.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_can_go_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(main, ["schema", "tests.gateway.contract.game:app", "--python", "-", "--typescript", "-"])
    assert done.exit_code == 0
    assert done.stdout.startswith("// Written by `skyloom schema --typescript`")
    assert done.stdout.endswith(python(contract_of([game])))


def test_a_folder_that_is_not_there() -> None:
    done = CliRunner().invoke(main, ["schema", "tests.gateway.contract.game:app", "--python", "nowhere/client.py"])
    assert done.exit_code == 2
    assert done.stderr == "skyloom: nowhere/client.py: cannot be written: No such file or directory\n"
