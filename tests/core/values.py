"""Classes of every kind that may cross a service boundary."""

from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, auto
from functools import cached_property
from typing import NamedTuple

from pydantic import BaseModel, PrivateAttr


class Colour(Enum):
    RED = "red"
    BLUE = ("blue", 2)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Access(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: object
    y: object


@dataclass
class Bag:
    owner: object
    things: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stamp:
    number: int
    text: str = ""


class Model(BaseModel):
    number: int
    anything: object = None
    _hidden: int = PrivateAttr(default=0)

    @cached_property
    def lock(self) -> object:
        return object()


class Extra(BaseModel, extra="allow"):
    number: int = 1


class Outer:
    class Inner(Enum):
        ONE = 1
