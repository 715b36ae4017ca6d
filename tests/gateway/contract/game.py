"""An app whose types are of every sort that a contract may meet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from skyloom import Failed
from skyloom_gateway import Agent, App, Push, notify, request


class Colour(StrEnum):
    """A side."""

    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Walk(BaseModel):
    """Go somewhere."""

    kind: Literal["walk"] = "walk"
    to: tuple[float, float]


class Hit(BaseModel):
    kind: Literal["hit"] = "hit"
    target: UUID
    force: Annotated[int, Field(ge=1, le=10)] = 1


class Orders(BaseModel):
    """A turn's orders. */ // \"\"\" and \\ are no end of it."""

    orders: list[Annotated[Walk | Hit, Field(discriminator="kind")]]
    note: Annotated[str, Field(max_length=20, description="for the log")] | None = None
    class_: Annotated[str, Field(alias="class")] = "pawn"


class Tree(BaseModel):
    """One place and those behind it."""

    name: str
    behind: list[Tree] = []


class Point(TypedDict, total=False):
    x: float
    y: float


@dataclass
class Done:
    turn: int
    at: datetime
    side: Annotated[Colour, Field(description="who moved")]
    rank: Rank | None = None
    marks: dict[str, int] | None = None


class Rules(BaseModel):
    model_config = ConfigDict(extra="forbid")
    open: bool


class Turned(Push, route="game.turned"):
    """A turn has ended."""

    turn: int
    winner: Colour | None


class Tick(Push, route="game.ping"):
    """A push of the same name as a notify."""


class NotYourTurn(Failed, code="game.not_your_turn", kind="failed_precondition", retryable=True):
    """Somebody else has to move first.

    It says who, in its message.
    """


class Cheating(Failed, code="game.cheating", kind="permission_denied"):
    pass


class GameAgent(Agent):
    @request("game.turn", errors=[NotYourTurn, Cheating])
    async def turn(self, body: Orders) -> Done:
        """Give orders."""
        return Done(1, datetime(2026, 1, 2), Colour.RED)  # noqa: DTZ001 - any time does

    @request("game.map")
    async def map(self, body: Point) -> Tree:
        return Tree(name=str(sorted(body.items())), behind=[Tree(name="attic")])

    @request("game.rules")
    async def rules(self) -> Rules | None:
        """What is allowed, or nothing."""
        return None

    @request("game.count")
    async def count(self, body: list[int]) -> dict[str, int]:
        return {"count": len(body)}

    @request("game.fail", errors=[NotYourTurn])
    async def fail(self) -> None:
        raise NotYourTurn("it is bob's turn")

    @notify("game.ping", errors=[Cheating])
    async def ping(self, body: Rules) -> None:
        self.push(Turned(turn=2, winner=Colour.BLUE))


app = App("game", agent=GameAgent, pushes=[Turned, Tick], title="Game", description="Turns.")
