"""PAYMENT: takes money for orders and gives it back, once for each order."""

from __future__ import annotations

from skyloom import Service, rpc
from skyloom.sql import DatabaseError
from skyloom_shop import ledger
from skyloom_shop.answers import Answers, told
from skyloom_shop.crash_points import reach
from skyloom_shop.database import Writes, read_for_client, storage_failed
from skyloom_shop.ledger import Charge, Charged, Visit
from skyloom_shop.provider import PaymentProvider, Wallets


class Payment(Service):
    """See the module's docstring. It charges the wallets of the ledger.

    To take money elsewhere, subclass it, return another `PaymentProvider` from `make_provider`, and serve that class
    in the place of this one.
    """

    name = "PAYMENT"
    mailbox_messages_max = 10_000
    handlers_max = 10_000

    async def on_start(self) -> None:
        self.writes = Writes(self)
        self.provider = self.make_provider()

    def make_provider(self) -> PaymentProvider:
        """Who takes the money."""
        return Wallets(self.writes)

    @rpc
    async def balance(self, user: str) -> int:
        """What is in a user's wallet, in minor units. A new user gets one, with `GRANT_MINOR_UNITS` in it.

        Raises StorageFailed.
        """
        found = await read_for_client(self, ledger.read_balance, user)
        if found is not None:
            return found
        try:
            return await self.writes.one(ledger.balance, Visit(user, self.clock.time()))
        except DatabaseError as error:
            raise storage_failed(error) from None

    @rpc
    async def process_payment(self, wish: Charge) -> Charged:
        """Charge a user for an order, once; asked again, it answers the same.

        Raises InsufficientFunds or the provider's own refusal, for good; ChargeVoided when it was refunded before.
        Any other error leaves it unknown: ask again, or refund.
        """
        charged = await self.provider.charge(wish)
        reach("ledger.after_charge")
        return charged

    @rpc
    async def process_payments(self, wishes: tuple[Charge, ...]) -> Answers[Charged | None]:
        """`process_payment` for many orders; None for one that has to be asked for by itself."""
        answers = await self.provider.charge_each(wishes)
        reach("ledger.after_charge")
        return told(answers)

    @rpc
    async def refund(self, wish: Charge) -> None:
        """Give back what the order was charged; what was not charged yet never will be. Harmless when repeated."""
        await self.provider.refund(wish)
        reach("ledger.after_refund")
