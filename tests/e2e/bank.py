"""Where money is that is not in the shop's database, and who has bad luck in it."""

from __future__ import annotations

import sqlite3

from skyloom_shop.errors import InsufficientFunds

UNLUCKY = "unlucky"
CARD_LIMIT = 10_000
BANK = "bank.db"


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
