"""The shop as the tests that kill it serve it.

It waits 1 s instead of 10 for the word of a process that was killed; users called unlucky lose what is held for them
once they have paid for it, so that there is something to refund; and `card` takes money outside of the database, at a
bank that outlives the server.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sqlalchemy import Connection, update

from skyloom import Failed
from skyloom_shop import make_app, order, order_book, stock
from skyloom_shop.payment import Payment
from skyloom_shop.provider import OutsideProvider, PaymentProvider
from skyloom_shop.schema import holds
from tests.e2e.bank import UNLUCKY, Bank

QUICK = ((order_book, "DRIVE_SECONDS", 1.0), (order, "SWEEP_EVERY_SECONDS", 0.2))

assert "pytest" not in sys.modules, "it changes the shop of its whole process, and is for a server's alone"
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


class CardPayment(Payment):
    """PAYMENT that takes the money there."""

    def make_provider(self) -> PaymentProvider:
        return OutsideProvider(self.writes, Bank())


wallet = make_app()
card = make_app(payment=CardPayment)
