"""The TypeScript that a contract makes; tests/e2e has it compiled."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom_gateway.contract import contract_of
from skyloom_gateway.contract.typescript import typescript
from tests.examples import examples
from tests.gateway.contract.game import app as game
from tests.gateway.contract.test_python import NASTY, contract

MADE = typescript(contract_of([game]))


@pytest.mark.parametrize(
    "line",
    [
        'export type Colour = "red" | "blue";',
        "  class?: string;",
        '  kind: "walk";',
        "  note?: string | null;",
        "  orders: (Walk | Hit)[];",
        "  to: [number, number];",
        "  behind: Tree[];",
        "  marks: Record<string, number> | null;",
        '  "game.count": { body: number[]; answer: Record<string, number>; errors: never };',
        '  "game.turn": { body: Orders; answer: Done; errors: "game.cheating" | "game.not_your_turn" };',
        '  "game.ping": { body: Rules };',
        '  "game.ping": Tick;',
        '  | "gateway.internal"',
        "  /** Give orders. */",
        '/** A turn\'s orders. * / // """ and \\ are no end of it. */',
        f'export const CONTRACT = "{contract_of([game]).hash}";',
    ],
)
def test_a_type_is_as_the_route_says(line: str) -> None:
    assert line in MADE.splitlines()


@pytest.mark.parametrize(
    ("schema", "expression"),
    [
        (True, "unknown"),
        ({}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"const": {"a": 1}}, "Record<string, unknown>"),
        ({"allOf": [{"type": "string"}, {"anyOf": [{"const": 1}, {"const": 2}]}]}, "string & (1 | 2)"),
        ({"type": "array", "items": [{"type": "string"}]}, "[(string)?, ...unknown[]]"),
        ({"type": "array", "items": [{"type": "string"}], "additionalItems": False, "minItems": 1}, "[string]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "Record<string, number>"),
        ({"type": "object", "maxProperties": 0}, "Record<string, never>"),
        ({"type": "object", "properties": {"a b": {}}, "required": ["a b"]}, '{ "a b": unknown; }'),
    ],
)
def test_expressions(schema: Any, expression: str) -> None:
    made = typescript(contract({"game.Thing": {"anyOf": [schema]}}, {}))
    assert f"export type Thing = {expression};" in made.splitlines()


@examples(50)
@given(st.one_of(st.text(), st.sampled_from(NASTY)))
def test_no_words_end_their_comment(words: str) -> None:
    plain = typescript(contract({"game.A": {"type": "string", "description": "words"}}, {}, words="words"))
    made = typescript(contract({"game.A": {"type": "string", "description": words}}, {}, words=words))
    code = [line for line in plain.splitlines() if not line.lstrip().startswith(("/*", "*"))]
    in_comment = False
    kept = []
    for line in made.split("\n")[: made.count("\n")]:
        bare = line.lstrip()
        in_comment = in_comment or bare.startswith("/**")
        if not in_comment:
            kept.append(line)
        elif "*/" in bare:
            assert bare.endswith("*/")
            assert bare.count("*/") == 1
            in_comment = False
    assert kept == code
