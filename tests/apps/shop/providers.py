"""A payment processor, as bad as they come: it times out after charging, answers late, and fails."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from skyloom import Failed
from skyloom_shop.payment import Payment
from skyloom_shop.provider import OutsideProvider, PaymentProvider

LIMIT = 12_000  # what a card is good for


class CardDeclined(Failed, code="card.declined", kind="failed_precondition"):
    """The card is not good for that much."""


class CardTrouble(Exception):
    """The connection to the processor broke: nobody knows what it did."""


@dataclass
class Card:
    """The processor. What it does is decided by `mood`: each call takes one, and "" is a good one.

    "lost" fails before anything happens, "late" answers after a while, "broken" charges and then fails, "silent"
    charges and never answers, "twice" does it twice, as a network that repeats a request does. While it is `away` all
    calls fail before anything happens.
    """

    moods: list[str] = field(default_factory=list)
    rng: random.Random | None = None
    charged: dict[str, int] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)
    calls: int = 0
    away: bool = False

    def kept(self) -> dict[str, int]:
        """What it has taken and not given back."""
        return {key: amount for key, amount in self.charged.items() if key not in self.refunded}

    async def charge(self, key: str, user: str, amount: int) -> str:
        mood = await self._begin()
        if amount > LIMIT:
            raise CardDeclined(f"{amount} is more than the card is good for")
        self.charged.setdefault(key, amount)
        if mood == "twice":
            self.charged.setdefault(key, amount)
        await self._end(mood)
        return f"card-{key}"

    async def refund(self, key: str, amount: int) -> None:
        mood = await self._begin()
        assert self.charged[key] == amount
        self.refunded.add(key)
        await self._end(mood)

    async def _begin(self) -> str:
        self.calls += 1
        mood = self.moods.pop(0) if self.moods else ""
        if self.rng is not None:
            mood = self.rng.choice(["", "", "", "lost", "late", "broken", "silent", "twice"])
        await asyncio.sleep(0.05)
        if mood == "lost" or self.away:
            raise CardTrouble
        return mood

    async def _end(self, mood: str) -> None:
        if mood == "late":
            await asyncio.sleep(5.0)
        if mood == "broken":
            raise CardTrouble
        if mood == "silent":
            await asyncio.sleep(3600.0)


def card_payment(card: Card) -> type[Payment]:
    """PAYMENT that takes money by this card."""

    class CardPayment(Payment):
        def make_provider(self) -> PaymentProvider:
            return OutsideProvider(self.writes, card)

    return CardPayment
