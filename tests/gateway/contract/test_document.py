"""The AsyncAPI document of apps: what it holds, and when it stays the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner

from skyloom import Failed
from skyloom_chat import app as chat
from skyloom_gateway import Agent, App, Push, request
from skyloom_gateway.app import AppError
from skyloom_gateway.cli import main
from skyloom_gateway.contract import contract_of, document, document_bytes
from tests.gateway.cast import echo
from tests.gateway.contract.game import app as game

CONTRACT = contract_of([game])
DOCUMENT = document(CONTRACT)


def resolve(pointer: str, document: dict[str, Any] = DOCUMENT) -> Any:
    found: Any = document
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for child in value.values() for found in references(child)]
    return [found for child in value for found in references(child)] if isinstance(value, list) else []


def payload(message: str) -> dict[str, Any]:
    found = DOCUMENT["components"]["messages"][message]["payload"]
    assert isinstance(found, dict)
    return found


def schema(name: str) -> dict[str, Any]:
    found = DOCUMENT["components"]["schemas"][f"game.{name}"]
    assert isinstance(found, dict)
    return found


def test_every_reference_leads_somewhere() -> None:
    for each in (DOCUMENT, document(contract_of([chat, echo]))):
        found = references(each)
        assert len(found) > 20
        for pointer in found:
            assert isinstance(resolve(pointer, each), dict)


def test_a_request_has_a_body_an_answer_and_its_errors() -> None:
    operation = DOCUMENT["operations"]["request-game.turn"]
    assert operation["action"] == "receive"
    assert operation["summary"] == "Give orders."
    assert resolve(operation["channel"]["$ref"])["address"] == "game.turn"
    assert [resolve(each["$ref"])["$ref"] for each in operation["messages"]] == [
        "#/components/messages/game.turn-request"
    ]
    assert [resolve(each["$ref"])["$ref"] for each in operation["reply"]["messages"]] == [
        "#/components/messages/game.turn-answer",
        "#/components/messages/error-game.cheating",
        "#/components/messages/error-game.not_your_turn",
    ]
    assert payload("game.turn-request") == {"$ref": "#/components/schemas/game.Orders"}


def test_an_error_has_code_kind_and_words() -> None:
    message = DOCUMENT["components"]["messages"]["error-game.not_your_turn"]
    assert (message["title"], message["summary"]) == ("NotYourTurn", "Somebody else has to move first.")
    assert message["description"].endswith("\n\nIt says who, in its message.")
    told = message["payload"]["allOf"][1]["properties"]
    assert told["code"] == {"const": "game.not_your_turn"}
    assert told["kind"] == {"const": "failed_precondition"}
    assert told["retryable"]["default"] is True
    bare = DOCUMENT["components"]["messages"]["error-game.cheating"]
    assert "summary" not in bare  # a docstring that it inherits says nothing about it


def test_a_notify_and_a_push_may_share_a_name() -> None:
    assert set(resolve("#/channels/game.ping")["messages"]) == {"notify", "push", "game.cheating"}
    assert DOCUMENT["operations"]["notify-game.ping"]["action"] == "receive"
    assert "reply" not in DOCUMENT["operations"]["notify-game.ping"]
    assert DOCUMENT["operations"]["push-game.ping"]["action"] == "send"


def test_errors_of_the_gateway_are_there_once() -> None:
    assert "gateway.invalid_body" in resolve("#/channels/gateway")["messages"]
    text = json.dumps(DOCUMENT["operations"])
    assert "gateway.invalid_body" not in text


def test_both_encodings_are_described() -> None:
    assert "skyloom.v1.msgpack" in DOCUMENT["servers"]["websocket"]["description"]
    binding = resolve("#/components/channelBindings/route")["ws"]
    assert binding["headers"]["properties"]["Sec-WebSocket-Protocol"]["enum"] == [
        "skyloom.v1.json",
        "skyloom.v1.msgpack",
    ]


def test_schemas_are_of_draft_07() -> None:
    text = json.dumps(DOCUMENT)
    for newer in ("prefixItems", "discriminator", "$defs", "oneOf"):
        assert f'"{newer}"' not in text
    walk = schema("Walk")["properties"]["to"]
    assert (walk["items"], walk["additionalItems"]) == ([{"type": "number"}, {"type": "number"}], False)
    orders = schema("Orders")["properties"]["orders"]["items"]
    assert orders == {"anyOf": [{"$ref": "#/components/schemas/game.Walk"}, {"$ref": "#/components/schemas/game.Hit"}]}


def test_what_a_server_always_sends_is_required() -> None:
    assert schema("Done")["required"] == ["turn", "at", "side", "rank", "marks"]
    assert "required" not in schema("Point")


def test_a_field_has_no_title_of_its_own_and_its_words_stand_beside_its_type() -> None:
    assert "title" not in schema("Tree")["properties"]["name"]
    side = schema("Done")["properties"]["side"]
    assert side == {"allOf": [{"$ref": "#/components/schemas/game.Colour"}], "description": "who moved"}


def test_the_field_that_tells_a_union_apart_is_required() -> None:
    assert schema("Walk")["required"] == ["to", "kind"]
    assert schema("Hit")["required"] == ["target", "kind"]


def test_no_body_and_no_answer_are_objects() -> None:
    assert payload("game.rules-request") == payload("game.fail-answer") == {"type": "object"}
    assert payload("game.rules-answer") == {
        "anyOf": [{"$ref": "#/components/schemas/game.Rules"}, {"type": "object", "maxProperties": 0}]
    }


class Extra(Push, route="game.extra"):
    pass


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_command_writes_the_same_bytes_each_time(seed: str) -> None:
    program = "from skyloom_gateway.cli import main; main(['schema', 'tests.gateway.contract.game:app'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
    )
    assert done.stdout == document_bytes(CONTRACT)
    assert json.loads(done.stdout)["info"]["x-contract"] == CONTRACT.hash


def test_the_order_of_apps_does_not_matter() -> None:
    assert document_bytes(contract_of([chat, game])) == document_bytes(contract_of([game, chat]))


def variant(body: type[BaseModel], *errors: type[Failed], words: str | None = None) -> App:
    class Agent_(Agent):  # noqa: N801 - beside the class it comes from
        @request("game.go", errors=errors)
        async def go(self, body: Any) -> None: ...

    Agent_.go.__doc__ = words
    Agent_.go.__annotations__["body"] = body
    return App("game", agent=Agent_, description=words or "")


class NowRetryable(Failed, code="game.cheating", kind="permission_denied", retryable=True):
    pass


def body_of(**fields: Any) -> type[BaseModel]:
    from pydantic import create_model

    return create_model("Body", **fields)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (variant(body_of(size=(int, 1)), words="Words."), True),
        (variant(body_of(size=(int, Field(1, description="Words.", title="T", examples=[2])))), True),
        (variant(body_of(size=(int, 2))), False),
        (variant(body_of(size=(int, Field(1, le=5)))), False),
        (variant(body_of(size=(str, "1"))), False),
        (variant(body_of(size=(int, 1), title=(int, 1))), False),
        (variant(body_of(size=(int, 1)), Cheating := NowRetryable), False),
    ],
    ids=["words", "field-words", "default", "bound", "type", "field-named-as-a-keyword", "error"],
)
def test_the_hash_changes_with_what_programs_go_by(other: App, same: bool) -> None:
    base = contract_of([variant(body_of(size=(int, 1)))])
    assert (contract_of([other]).hash == base.hash) is same
    assert document(contract_of([other])) != document(base)


def test_two_errors_of_one_code() -> None:
    class First(Failed, code="game.odd", kind="internal"):
        pass

    class Second(Failed, code="game.odd", kind="not_found"):
        pass

    class TwoAgent(Agent):
        @request("game.one", errors=[First])
        async def one(self) -> None: ...

        @request("game.two", errors=[Second])
        async def two(self) -> None: ...

    with pytest.raises(AppError, match="'game.odd' belongs to two classes, First and Second"):
        contract_of([App("game", agent=TwoAgent)])


class Opaque:
    pass


class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Opaque


def test_a_type_without_a_schema() -> None:
    with pytest.raises(AppError, match=r"^app 'game': a type of its routes has no JSON schema: .*Opaque"):
        contract_of([variant(Odd)])


@pytest.mark.parametrize("command", ["gateway", "check", "schema"])
def test_every_command_says_what_has_no_schema(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("odd_game")
    module.app = variant(Odd)
    monkeypatch.setitem(sys.modules, "odd_game", module)
    done = CliRunner().invoke(main, [command, "odd_game:app"])
    assert done.exit_code in (1, 2)
    assert done.stderr.startswith("skyloom: app 'game': a type of its routes has no JSON schema: ")
    assert "Traceback" not in done.stderr


def test_an_app_that_cannot_be_loaded() -> None:
    done = CliRunner().invoke(main, ["schema", "no.module:app"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "skyloom: app 'no.module:app': module 'no.module' cannot be imported" in done.stderr
