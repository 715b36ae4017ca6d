"""PAYMENT: takes money for orders and gives it back, once for each order."""

from __future__ import annotations

from skyloom import Failed, Service, rpc
from skyloom.sql import DatabaseError
from skyloom_shop import ledger
from skyloom_shop.answers import Answers, told
from skyloom_shop.crash_points import reach
from skyloom_shop.database import Writes, read_for_client, storage_failed
from skyloom_shop.ledger import Charge, Charged, Visit
from skyloom_shop.provider import PaymentProvider, charge_outside, refund_outside


class Payment(Service):
    """See the module's docstring. Without a provider of its own it charges the wallets of the ledger.

    To take money elsewhere, subclass it, return a `PaymentProvider` from `make_provider`, and serve that class in the
    place of this one.
    """

    name = "PAYMENT"
    mailbox_messages_max = 10_000
    handlers_max = 10_000

    async def on_start(self) -> None:
        self._writes = Writes(self)
        self.provider = self.make_provider()

    def make_provider(self) -> PaymentProvider | None:
        """Who takes the money; None for the wallets."""
        return None

    @rpc
    async def balance(self, user: str) -> int:
        """What is in a user's wallet, in minor units. A new user gets one, with `GRANT_MINOR_UNITS` in it.

        Raises StorageFailed.
        """
        found = await read_for_client(self, ledger.read_balance, user)
        if found is not None:
            return found
        try:
            return await self._writes.one(ledger.balance, Visit(user, self.clock.time()))
        except DatabaseError as error:
            raise storage_failed(error) from None

    @rpc
    async def process_payment(self, wish: Charge) -> Charged:
        """Charge a user for an order, once; asked again, it answers the same.

        Raises InsufficientFunds or the provider's own refusal, for good; ChargeVoided when it was refunded before.
        Any other error leaves it unknown: ask again, or refund.
        """
        if self.provider is None:
            answer = await self._writes.one(ledger.charge, wish)
        else:
            answer = await charge_outside(self.provider, self._writes, wish)
        reach("ledger.after_charge")
        if isinstance(answer, Failed):
            raise answer
        return answer

    @rpc
    async def charge_wallets(self, wishes: tuple[Charge, ...]) -> Answers[Charged | None]:
        """`process_payment` for many orders. None for all of them when the money is not in the wallets: a provider may
        keep one order waiting, and the others shall not wait for that.
        """
        if self.provider is not None:
            return (None,) * len(wishes)
        answers = await self._writes.many(ledger.charge, wishes)
        reach("ledger.after_charge")
        return told(answers)

    @rpc
    async def refund(self, wish: Charge) -> None:
        """Give back what the order was charged; what was not charged yet never will be. Harmless when repeated."""
        if self.provider is None:
            await self._writes.one(ledger.begin_refund, wish)
        else:
            await refund_outside(self.provider, self._writes, wish)
        reach("ledger.after_refund")
