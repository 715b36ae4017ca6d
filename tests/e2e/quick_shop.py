"""The shop as the tests that kill it serve it.

It waits 1 s instead of 10 for the word of a process that was killed; users called unlucky lose what is held for them
once they have paid for it, so that there is something to refund; and `card` takes money outside of the database, at a
bank that outlives the server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sqlalchemy import Connection, update

from skyloom import Failed
from skyloom_shop import make_app, order, order_book, stock
from skyloom_shop.errors import InsufficientFunds
from skyloom_shop.payment import Payment
from skyloom_shop.provider import PaymentProvider
from skyloom_shop.schema import holds

QUICK = ((order_book, "DRIVE_SECONDS", 1.0), (order, "SWEEP_EVERY_SECONDS", 0.2))
UNLUCKY = "unlucky"
CARD_LIMIT = 10_000
BANK = "bank.db"

for module, name, seconds in QUICK:
    assert isinstance(vars(module)[name], float)
    setattr(module, name, seconds)

_confirm = stock.confirm


def confirm(connection: Connection, keys: Sequence[str]) -> list[Failed | None]:
    unlucky = [key for key in keys if UNLUCKY in key]
    connection.execute(update(holds).where(holds.c.key.in_(unlucky)).values(until_seconds=0.0))
    stock.expire(connection, [0.0])  # it reaches no crash point, as a release would
    return _confirm(connection, keys)


stock.confirm = confirm


class Bank:
    """Keeps what it was asked for in a file of its own."""

    def __init__(self) -> None:
        self._file = sqlite3.connect(BANK, isolation_level=None)
        self._file.execute("CREATE TABLE IF NOT EXISTS transfers (kind, key, amount, PRIMARY KEY (kind, key))")

    def _transfer(self, kind: str, key: str, amount: int) -> None:
        self._file.execute("INSERT INTO transfers VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (kind, key, amount))

    async def charge(self, key: str, user: str, amount: int) -> str:
        if amount > CARD_LIMIT:
            raise InsufficientFunds(f"the card is good for {CARD_LIMIT}")
        self._transfer("charge", key, amount)
        return f"bank-{key}"

    async def refund(self, key: str, amount: int) -> None:
        self._transfer("refund", key, amount)


class CardPayment(Payment):
    """PAYMENT that takes the money there."""

    def make_provider(self) -> PaymentProvider:
        return Bank()


wallet = make_app()
card = make_app(payment=CardPayment)
