"""What the chat can raise is what its routes declare, read from the source: no error is forgotten and none invented."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache

import pytest

from skyloom import Failed
from skyloom_chat import agent, app, hub

# Where an agent's handler goes: by a name of its own, or by the protocol "chat" to this method.
SAY = "_on_chat"


@cache
def methods(cls: type) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    return {node.name: node for node in body.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}


def raised(cls: type, method: str, seen: set[str]) -> Iterator[type[Failed]]:
    """The errors that a method raises, itself or by the methods that it calls."""
    if method in seen or method not in methods(cls):
        return
    seen.add(method)
    for node in ast.walk(methods(cls)[method]):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = getattr(inspect.getmodule(cls), ast.unparse(node.exc.func))
            assert issubclass(error, Failed)
            yield error
        elif isinstance(node, ast.Call):
            owner, _, name = ast.unparse(node.func).rpartition(".")
            if owner == "self._hub":
                yield from raised(hub.ChatHub, name, set())
            elif owner == "self" and name == "call":
                assert ast.unparse(node.args[1]) == "'chat'"
                yield from raised(hub.ChatHub, SAY, set())
            elif owner == "self":
                yield from raised(cls, name, seen)


@pytest.mark.parametrize("route", sorted(app.routes))
def test_a_route_declares_what_it_can_raise(route: str) -> None:
    found = set(raised(agent.ChatAgent, app.routes[route].handler.__name__, set()))
    assert {error.__name__ for error in app.routes[route].errors} == {error.__name__ for error in found}


def test_every_error_of_the_chat_belongs_to_a_route() -> None:
    mine = {error for error in vars(hub).values() if isinstance(error, type) and issubclass(error, Failed)} - {Failed}
    assert len(mine) == 5
    assert mine == {error for route in app.routes.values() for error in route.errors}
