"""The contract's table of the gateway's own errors says what the gateway's source does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import skyloom_gateway
from skyloom_gateway.contract.gateway_errors import GATEWAY_ERRORS, _table
from skyloom_gateway.wire import ErrorKind

SOURCES = Path(skyloom_gateway.__file__).parent


def made() -> Iterator[tuple[str, str, bool]]:
    """Code, kind and retryable of each error that the gateway's source spells out."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("WireError", "CloseCause"):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                parts = dict(zip(("code", "kind", "message"), node.args, strict=False)) | named
                code = str(getattr(parts["code"], "value", ""))
                if code.startswith("gateway."):
                    kind = ErrorKind[ast.unparse(parts["kind"]).removeprefix("ErrorKind.")]
                    yield code, kind, ast.unparse(parts.get("retryable", ast.Constant(False))) == "True"
            elif isinstance(node, ast.ClassDef):
                given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
                if str(given.get("code", "")).startswith("gateway."):
                    yield given["code"], given.get("kind", "internal"), given.get("retryable", False)


def test_the_table_has_the_errors_of_the_source_and_no_other() -> None:
    found = set(made())
    assert len(found) > 15
    assert {(error.code, error.kind, error.retryable) for error in GATEWAY_ERRORS.values()} == found


def test_a_code_that_is_there_twice_is_refused() -> None:
    row = ("gateway.full", "unavailable", True, "No room.")
    with pytest.raises(ValueError, match=r"gateway\.full is there twice"):
        _table(row, (*row[:3], "In other words."))


def test_each_error_has_words_and_a_name_of_its_own() -> None:
    assert all(error.description.endswith(".") for error in GATEWAY_ERRORS.values())
    assert len({error.name for error in GATEWAY_ERRORS.values()}) == len(GATEWAY_ERRORS)
    assert list(GATEWAY_ERRORS) == sorted(GATEWAY_ERRORS)
