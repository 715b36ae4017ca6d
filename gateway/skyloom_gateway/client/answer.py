"""The body of an answer or a push, in the type that its receiver asked for."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from skyloom_gateway.client.errors import AnswerInvalid

ADAPTERS_MAX = 512

T = TypeVar("T")


@lru_cache(maxsize=ADAPTERS_MAX)
def _adapter(wanted: Any) -> TypeAdapter[Any]:
    # Building an adapter costs a hundred validations, so each type's is kept.
    return TypeAdapter(wanted)


def as_type(route: str, wanted: type[T] | TypeAdapter[T], body: object) -> T:
    """Validate `body` as `wanted`; raises AnswerInvalid, whose cause is pydantic's error."""
    adapter: TypeAdapter[T] = wanted if isinstance(wanted, TypeAdapter) else _adapter(cast("Hashable", wanted))
    try:
        return adapter.validate_python(body)
    except ValidationError as error:
        name = getattr(wanted, "__name__", str(wanted))
        raise AnswerInvalid(route, name, f"{error.error_count()} errors, see the cause") from error


def typed_as(wanted: type[T] | TypeAdapter[T] | None) -> Callable[[str, object], Any]:
    """A function that types bodies of pushes; None leaves them as they come."""
    if wanted is None:
        return lambda _route, body: body
    return lambda route, body: as_type(route, wanted, body)
