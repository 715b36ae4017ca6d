"""A contract in Python: pydantic models of all bodies, and for each app a client with a method for each route.

async with connect(url, auth=...) as client:
    chat = ChatClient(client)
    joined = await chat.join(Join(room="lobby"))  # a Joined

The written file needs `skyloom_gateway.client` and pydantic.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from skyloom_gateway.contract.identifiers import pascal, snake, type_names, unique
from skyloom_gateway.contract.python_types import IN_CLASSES, RESERVED, PythonTypes, docstring
from skyloom_gateway.contract.schema import ANY_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyloom_gateway.contract.contract import Contract, Operation

_INDENT: Final = "    "
_TIMEOUT: Final = "timeout: float | None = None"

_HEAD: Final = '''\
"""The contract of {title}.

Written by `skyloom schema --python`: change the server's routes, not this file.
"""

from __future__ import annotations

from datetime import date as _date
from datetime import datetime as _datetime
from datetime import time as _time
from typing import Annotated, Any, Literal, TypeAlias, cast
from uuid import UUID as _UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from skyloom_gateway.client import Client, PushStream
from typing_extensions import TypeAliasType

CONTRACT = {hash}
"""The contract's hash, as a server's welcome has it."""

ErrorCode: TypeAlias = Literal[
{codes}
]
"""All codes that an error may have."""


def _is_absent(value: object) -> bool:
    return value is None


class _Model(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
'''


def python(contract: Contract) -> str:
    """A module; the same for the same contract."""
    clients = {app: f"{pascal(app)}Client" for app in contract.apps}
    names = type_names(contract.schemas, {*RESERVED, *clients.values()})
    types = PythonTypes(names)
    codes = {code for route in contract.routes.values() for code in route.errors} | contract.gateway_errors.keys()
    title = re.sub(r"[^\w .,-]", "", contract.title) or "no apps"
    parts = [
        _HEAD.format(
            title=title,
            hash=json.dumps(contract.hash),
            codes="\n".join(f"{_INDENT}{json.dumps(code)}," for code in sorted(codes)),
        ),
        *(types.declaration(names[key], schema) for key, schema in contract.schemas.items()),
        *(_App(app, words, clients[app], contract, types).text() for app, words in contract.apps.items()),
    ]
    return "\n\n".join(parts)


class _App:
    """The client of one app."""

    def __init__(self, app: str, words: str, name: str, contract: Contract, types: PythonTypes) -> None:
        self._words = words
        self._name = name
        self._types = types
        self._adapters: list[str] = []
        self._methods: set[str] = {"client"}
        prefix = f"{app}."
        self._routes = [each for each in contract.routes.values() if each.route.startswith(prefix)]
        self._pushes = [each for each in contract.pushes.values() if each.route.startswith(prefix)]

    def text(self) -> str:
        lines = [
            f"class {self._name}:",
            *docstring(self._words or "The routes of the app.", _INDENT),
            "",
            f"{_INDENT}def __init__(self, client: Client) -> None:",
            f"{_INDENT * 2}self.client = client",
        ]
        for operation in self._routes:
            lines += ["", *(_INDENT + line if line else "" for line in self._route(operation))]
        for operation in self._pushes:
            lines += ["", *(_INDENT + line if line else "" for line in self._push(operation))]
        # Before the class, since a method names its adapter when it is called, but after all types.
        return "\n".join([*self._adapters, *(["", ""] if self._adapters else []), *lines, ""])

    def _method(self, wanted: str) -> str:
        name = unique(snake(wanted), IN_CLASSES | self._methods)
        self._methods.add(name)
        return name

    def _route(self, operation: Operation) -> Iterable[str]:
        rest = operation.route.partition(".")[2]
        name = self._method(rest)
        is_request = operation.kind == "request"
        parameters = ["self"]
        sent = ""
        if operation.body != ANY_OBJECT:
            parameters.append(f"body: {self._types.of(operation.body)}")
            sent = ", body" if self._types.is_model(operation.body) else ', cast("Any", body)'
        if is_request:
            parameters += ["*", _TIMEOUT]
        answers = is_request and operation.answer != ANY_OBJECT
        result = self._types.of(operation.answer) if answers else "None"
        yield f"async def {name}({', '.join(parameters)}) -> {result}:"
        yield from docstring(_route_words(operation), _INDENT)
        route = json.dumps(operation.route)
        if not is_request:
            yield f"{_INDENT}await self.client.notify({route}{sent})"
        elif answers:
            wanted = self._wanted(operation.route, operation.answer)
            yield f"{_INDENT}return await self.client.request({route}{sent}, timeout=timeout, returns={wanted})"
        else:
            yield f"{_INDENT}await self.client.request({route}{sent}, timeout=timeout)"

    def _push(self, operation: Operation) -> Iterable[str]:
        name = self._method(operation.route.partition(".")[2] + "_pushes")
        yield f"def {name}(self) -> PushStream[{self._types.of(operation.body)}]:"
        yield from docstring(operation.description or f"The pushes {operation.route}, from now on.", _INDENT)
        wanted = self._wanted(operation.route, operation.body)
        yield f"{_INDENT}return self.client.pushes({json.dumps(operation.route)}, body={wanted})"

    def _wanted(self, route: str, schema: Any) -> str:
        """What the client is given to make a body of this type: a class, or an adapter for what is none."""
        expression = self._types.of(schema)
        if self._types.is_model(schema):
            return expression
        name = f"_{snake(route).upper()}"
        self._adapters.append(f"{name}: TypeAdapter[{expression}] = TypeAdapter({expression})")
        return name


def _route_words(operation: Operation) -> str:
    lines = [operation.description] if operation.description else []
    if operation.errors:
        lines.append("Raises RequestFailed with one of these codes:")
        lines[-1] += "".join(
            f"\n- {code} ({error.kind}){': ' if error.description else ''}{error.description.partition(chr(10))[0]}"
            for code, error in operation.errors.items()
        )
    return "\n\n".join(lines) or f"The {operation.kind} {operation.route}."
