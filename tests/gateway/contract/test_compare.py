"""`skyloom schema --check`: what breaks clients is named, and what does not passes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from skyloom_chat import app as chat
from skyloom_gateway.cli import main
from skyloom_gateway.contract import contract_of, document, document_bytes
from skyloom_gateway.contract.compare import compare
from skyloom_gateway.contract.contract import ContractError
from skyloom_gateway.contract.reading import read_contract
from skyloom_shop import app as shop
from tests.gateway.cast import echo, other
from tests.gateway.contract.game import app as game

NOW = contract_of([game])
SPEC = "tests.gateway.contract.game:app"
Document = dict[str, Any]


def check(old: Document | bytes, *options: str) -> Result:
    Path("old.json").write_bytes(old if isinstance(old, bytes) else json.dumps(old).encode())
    return CliRunner().invoke(main, ["schema", SPEC, "--check", "old.json", *options])


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("apps", [[game], [chat, shop], [echo, other], []])
def test_a_contract_is_read_back_as_it_was(apps: Any) -> None:
    contract = contract_of(apps)
    back = read_contract(document_bytes(contract))
    assert back == contract
    assert back.hash == contract.hash
    assert compare(back, contract) == []


def test_nothing_changed() -> None:
    done = check(document(NOW), "--verbose")
    assert (done.exit_code, done.stdout) == (0, "no change breaks clients\n")


def schema(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][f"game.{name}"]
    return found


def drop(document: Document, route: str) -> None:
    kind = next(kind for kind in ("request", "notify", "push") if f"{kind}-{route}" in document["operations"])
    del document["operations"][f"{kind}-{route}"]


def turn_to_notify(document: Document) -> None:
    operation = document["operations"]["request-game.count"]
    del operation["reply"]
    messages = document["channels"]["game.count"]["messages"]
    operation["messages"] = [{"$ref": "#/channels/game.count/messages/notify"}]
    messages["notify"] = messages.pop("request")


def other_error(document: Document) -> None:
    messages = document["channels"]["game.fail"]["messages"]
    document["components"]["messages"]["error-game.lost"] = json.loads(
        json.dumps(document["components"]["messages"]["error-game.not_your_turn"]).replace("not_your_turn", "lost")
    )
    messages["game.lost"] = {"$ref": "#/components/messages/error-game.lost"}


def error_kind(document: Document, code: str, kind: str) -> None:
    error = document["components"]["messages"][f"error-{code}"]
    error["payload"]["allOf"][1]["properties"]["kind"]["const"] = kind


def error_code(document: Document, code: str, other: str) -> None:
    error = document["components"]["messages"][f"error-{code}"]
    error["payload"]["allOf"][1]["properties"]["code"]["const"] = other


def retryable(document: Document) -> None:
    error = document["components"]["messages"]["error-game.cheating"]
    error["payload"]["allOf"][1]["properties"]["retryable"]["default"] = True


def new_route(document: Document, kind: str) -> None:
    operation = document["operations"][f"{kind}-game.ping"]
    channel = document["channels"]["game.old"] = copy.deepcopy(document["channels"]["game.ping"])
    channel["address"] = "game.old"
    document["operations"][f"{kind}-game.old"] = {**operation, "channel": {"$ref": "#/channels/game.old"}}


# How the old contract was, what is said of it, and whether that breaks clients.
CHANGES: list[tuple[Callable[[Document], object], str, bool]] = [
    (lambda old: new_route(old, "notify"), "game.old: was a notify, is gone", True),
    (lambda old: new_route(old, "push"), "game.old: was a push, is gone", True),
    (lambda old: drop(old, "game.map"), "game.map: is a request, was not there", False),
    (lambda old: drop(old, "game.turned"), "game.turned: is a push, was not there", False),
    (turn_to_notify, "game.count: was a notify, is a request", True),
    (other_error, "game.fail: error game.lost is gone", True),
    (
        lambda old: old["channels"]["game.fail"]["messages"].pop("game.not_your_turn"),
        "game.fail: error game.not_your_turn (failed_precondition) is new",
        False,
    ),
    (
        lambda old: error_kind(old, "game.cheating", "internal"),
        "game.turn: error game.cheating: was internal, is permission_denied",
        True,
    ),
    (
        lambda old: error_kind(old, "gateway.closed", "aborted"),
        "gateway: error gateway.closed: was aborted, is internal",
        True,
    ),
    (retryable, "game.ping: error game.cheating: trying again does not help now", False),
    # Bodies: what clients send.
    (
        lambda old: schema(old, "Orders")["required"].remove("orders"),
        "game.turn: body.orders: was there or not, is always there",
        True,
    ),
    (
        lambda old: (schema(old, "Orders")["properties"].pop("orders"), schema(old, "Orders").pop("required")),
        "game.turn: body.orders: was not there, is always there",
        True,
    ),
    (
        lambda old: schema(old, "Orders")["properties"].pop("class"),
        "game.turn: body.class: was not there, is there or not",
        False,
    ),
    (
        lambda old: schema(old, "Hit")["properties"]["force"].update(maximum=20),
        "game.turn: body.orders[].force: was at most 20, is at most 10",
        True,
    ),
    (
        lambda old: schema(old, "Hit")["properties"]["force"].update(maximum=5),
        "game.turn: body.orders[].force: was at most 5, is at most 10",
        False,
    ),
    (
        lambda old: schema(old, "Point")["properties"].update(x={"type": ["number", "string"]}),
        "game.map: body.x: was text, is a number",
        True,
    ),
    (
        lambda old: schema(old, "Walk")["properties"].update(kind={"enum": ["walk", "run"]}),
        "game.turn: body.orders[]",
        True,
    ),
    # Answers and pushes: what clients are told.
    (
        lambda old: schema(old, "Colour").update(enum=["blue"]),
        'game.turn: answer.side: was "blue", is "red"',
        True,
    ),
    (
        lambda old: schema(old, "Colour").update(enum=["blue", "green", "red"]),
        'game.turn: answer.side: was "green", is "red" or "blue"',
        False,
    ),
    (
        lambda old: schema(old, "Done")["properties"].update(left={"type": "integer"}),
        "game.turn: answer.left: was there or not, is not there",
        False,
    ),
    (
        lambda old: (
            schema(old, "Done")["properties"].update(left={"type": "integer"}),
            schema(old, "Done")["required"].append("left"),
        ),
        "game.turn: answer.left: was always there, is not there",
        True,
    ),
    (
        lambda old: schema(old, "Turned")["properties"].update(winner={"$ref": "#/components/schemas/game.Colour"}),
        "game.turned: push.winner: was ",
        True,
    ),
    (
        lambda old: schema(old, "Tree")["properties"]["name"].update(maxLength=5),
        "game.map: answer.name: was of a length of at most 5, is of any length",
        True,
    ),
]


@pytest.mark.parametrize(("change", "said", "breaks"), CHANGES, ids=range(len(CHANGES)))
def test_a_change_is_named_and_judged(change: Callable[[Document], object], said: str, breaks: bool) -> None:
    old = document(NOW)
    old = json.loads(json.dumps(old))
    change(old)
    changes = compare(read_contract(json.dumps(old).encode()), NOW)
    assert any(each.breaks for each in changes) is breaks
    assert any(str(each).startswith(said) and each.breaks is breaks for each in changes), changes
    done = check(old, "--verbose")
    assert done.exit_code == (1 if breaks else 0)
    assert said in done.stdout
    quiet = check(old)
    assert (said in quiet.stdout) is breaks


def test_what_breaks_is_counted_and_what_does_not_is_listed_on_demand() -> None:
    old = json.loads(json.dumps(document(NOW)))
    new_route(old, "push")
    drop(old, "game.map")
    assert check(old).stdout == "1 change breaks clients:\n  game.old: was a push, is gone\n"
    assert check(old, "--verbose").stdout.endswith(
        "1 change does not:\n  game.map: is a request, was not there\n",
    )


def test_what_breaks_is_not_listed_among_the_rest() -> None:
    old = json.loads(json.dumps(document(NOW)))
    schema(old, "Point")["properties"].update(x={"type": "string"})
    said = "game.map: body.x: was text, is a number"
    assert [(str(change), change.breaks) for change in compare(read_contract(json.dumps(old).encode()), NOW)] == [
        (said, True)
    ]


def test_types_that_go_on_and_on_are_refused() -> None:
    def chain(leaf: str) -> bytes:
        old = json.loads(json.dumps(document(NOW)))
        schemas = old["components"]["schemas"]
        for place in range(1_500):
            schemas[f"game.C{place}"] = {"items": {"$ref": f"#/components/schemas/game.C{place + 1}"}}
        schemas["game.C1500"] = {"type": leaf}
        schemas["game.Point"]["properties"]["x"] = {"$ref": "#/components/schemas/game.C0"}
        return json.dumps(old).encode()

    with pytest.raises(ContractError, match="the contracts cannot be compared"):
        compare(read_contract(chain("string")), read_contract(chain("integer")))


def test_apps_that_never_were_in_it_are_not_missed() -> None:
    Path("old.json").write_bytes(document_bytes(contract_of([])))
    done = CliRunner().invoke(main, ["schema", SPEC, "--check", "old.json"])
    assert done.exit_code == 0


def broken(change: Callable[[Document], object]) -> bytes:
    old = json.loads(json.dumps(document(NOW)))
    change(old)
    return json.dumps(old).encode()


FAULTS: list[tuple[bytes, str]] = [
    (b"", "it is not JSON"),
    (b"\xff{}", "it is not UTF-8, at byte 0"),
    (b"[]", "it is no JSON object but a list"),
    (b"{}", "asyncapi is missing"),
    (b'{"asyncapi": 3}', "asyncapi: wanted text, got a number"),
    (b'{"asyncapi": "2.6.0"}', "asyncapi: version '2.6.0' is not read, only 3"),
    (b'{"asyncapi": NaN}', "NaN is no number"),
    (b'{"asyncapi": 1e999}', "it is over a limit"),
    (b'{"a":' * 100_000, "it is nested deeper than 64 levels"),
    (b'{"a":' * 70 + b"1" + b"}" * 70, "it is over a limit: nested deeper than 64 levels"),
    (b"[" + b"0," * 3_000 + b"0]", "it is no JSON object"),
    (b'{"a": [' + b"0," * 3_000 + b"0]}", "it is over a limit: an array holds more than 2000 items"),
    (b" " * (4 * 1024 * 1024 + 1), "it has 4,194,305 bytes, over 4,194,304"),
    (b'{"a": ' + b"9" * 5_000 + b"}", "it is not JSON"),
    (broken(lambda old: old["info"].pop("x-contract")), "info.x-contract is missing: this document was not written by"),
    (broken(lambda old: old.pop("components")), "components is missing"),
    (broken(lambda old: old["info"].update(tags=[1])), "info.tags: wanted objects, got a number"),
    (broken(lambda old: old["operations"].update(x=None)), "operations.x: wanted an object, got null"),
    (
        broken(lambda old: old["operations"]["request-game.map"]["channel"].update({"$ref": "http://x/"})),
        "operations.request-game.map.channel.$ref: http://x/ does not begin with #/channels/",
    ),
    (
        broken(lambda old: old["operations"]["request-game.map"]["channel"].update({"$ref": "#/channels/x\x1b[2J"})),
        'there is no channel "x\\u001b[2J"',
    ),
    (
        broken(lambda old: old["channels"]["game.map"].update(address="game map\n")),
        'channels.game.map.address: "game map\\n" is no route',
    ),
    (broken(lambda old: old["channels"]["game.map"].update(address="game.count")), "game.count has two operations"),
    (broken(lambda old: old["channels"].pop("gateway")), "channels: there is no channel gateway"),
    (broken(lambda old: old["channels"]["game.map"]["messages"].pop("answer")), "channels.game.map.messages.answer is"),
    (broken(lambda old: old["components"]["messages"].pop("game.map-answer")), "there is no message game.map-answer"),
    (broken(lambda old: error_kind(old, "game.cheating", "odd")), "odd is none of the kinds of error"),
    (
        broken(lambda old: schema(old, "Tree").update(type="tree")),
        "components.schemas.game.Tree: type has a value that",
    ),
    (
        broken(lambda old: schema(old, "Tree").update(required=[1])),
        "components.schemas.game.Tree: required has a value",
    ),
    (
        broken(lambda old: schema(old, "Tree").update(properties=[])),
        "game.Tree: properties has a value that it may not",
    ),
    (broken(lambda old: schema(old, "Tree")["properties"].update(a=1)), "a schema is an object, true or false"),
    (broken(lambda old: schema(old, "Tree").update(anyOf=[])), "game.Tree: anyOf has a value that it may not have"),
    (broken(lambda old: schema(old, "Tree").update(maxItems=-1)), "game.Tree: maxItems has a value that it may not"),
    (
        broken(lambda old: error_code(old, "game.cheating", "game.x\n")),
        '"game.x\\n" is no error code',
    ),
    (broken(lambda old: schema(old, "Tree").update(maxItems=True)), "game.Tree: maxItems has a value that it may not"),
    (broken(lambda old: schema(old, "Tree").update(minimum=True)), "game.Tree: minimum has a value that it may not"),
    (broken(lambda old: schema(old, "Tree").update(multipleOf=0)), "game.Tree: multipleOf has a value that it may not"),
    (
        broken(lambda old: schema(old, "Tree").update({"$ref": "#/components/schemas/game.Nil"})),
        'game.Tree: $ref "#/components/schemas/game.Nil" leads nowhere',
    ),
    (
        broken(lambda old: schema(old, "Tree").update({"anyOf": [{"$ref": "#/components/schemas/game.Tree"}]})),
        "components.schemas.game.Tree: it refers to itself, with nothing between",
    ),
    (
        broken(lambda old: old["components"]["schemas"].update({"x\x1b": {}})),
        'components.schemas: "x\\u001b" is no name',
    ),
]


@pytest.mark.parametrize(("data", "said"), FAULTS, ids=range(len(FAULTS)))
def test_a_broken_file_is_refused_with_where_and_why(data: bytes, said: str) -> None:
    done = check(data)
    assert done.exit_code == 2
    assert done.stderr.startswith("skyloom: --check old.json: ")
    assert said in done.stderr
    assert done.stderr.isprintable() or done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there() -> None:
    done = CliRunner().invoke(main, ["schema", SPEC, "--check", "no.json"])
    assert done.exit_code == 2
    assert "skyloom: --check no.json: cannot be read: No such file" in done.stderr


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_to_a_file_is_more_than_a_refusal(seed: int) -> None:
    """Takes something out of the document, or puts something else in its place, wherever that is."""
    import random

    dice = random.Random(seed)
    for _ in range(20):
        old = json.loads(json.dumps(document(NOW)))
        place: Any = old
        while isinstance(place, dict | list) and place:
            key = dice.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
            if dice.random() < 0.25 or not isinstance(place[key], dict | list):
                place[key] = dice.choice([None, 1, "x", [], {}, True, [1], {"$ref": "#/components/schemas/game.Tree"}])
                break
            place = place[key]
        try:
            found = compare(read_contract(json.dumps(old).encode()), NOW)
        except ContractError as error:
            said = [str(error)]
        else:
            said = [str(change) for change in found]
        assert all(each.isprintable() for each in said)
