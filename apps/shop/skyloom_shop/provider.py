"""Who takes the money: the interface of a payment provider, and the two that there are.

`Wallets` needs little: its charge and the record of it are one transaction. `OutsideProvider` asks a payment processor
that may time out after charging, answer twice or late, or fail; so what is to be done is written down before it is
asked, and what it answered after. What the processor must keep is what payment companies call an idempotency key:

- a charge with a key that it has seen is answered as the first time, and charges nothing;
- a refund of a key that it has refunded does nothing.

An answer that was lost is then found by asking again. So is the fate of a charge that is to be taken back: it is
asked for once more, which settles it, and refunded if it was made. A late one cannot follow, for it has the same key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skyloom import CallError, Failed
from skyloom_shop import ledger
from skyloom_shop.crash_points import reach
from skyloom_shop.ledger import Charge, Charged, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_shop.database import Writes


class PaymentProvider(Protocol):
    """What PAYMENT asks to take money for orders, and to give it back, once for each order, whatever crashes."""

    async def charge(self, wish: Charge) -> Charged:
        """Charge a user for an order, once; asked again, it answers the same.

        Raises a `Failed` with a code of its own when it refuses, which it then does for good. Whatever else it raises
        means that nobody knows.
        """
        ...

    async def charge_each(self, wishes: Sequence[Charge]) -> Sequence[Charged | Exception | None]:
        """Charge many at once: for each order what `charge` returns or raises.

        None for one that would keep the others waiting, and that has to be asked for by itself.
        """
        ...

    async def refund(self, wish: Charge) -> None:
        """Give back what the order was charged, once; what was not charged yet never will be."""
        ...


class Wallets:
    """The provider that comes with the shop: the users' wallets in its own ledger."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def charge(self, wish: Charge) -> Charged:
        return _made(await self._writes.one(ledger.charge, wish))

    async def charge_each(self, wishes: Sequence[Charge]) -> Sequence[Charged | Exception]:
        return await self._writes.many(ledger.charge, wishes)

    async def refund(self, wish: Charge) -> None:
        await self._writes.one(ledger.begin_refund, wish)


class PaymentProcessor(Protocol):
    """A payment company, as `OutsideProvider` asks it; see the module's docstring. Amounts are in minor units."""

    async def charge(self, key: str, user: str, amount: int) -> str:
        """Charge a user, once for each key; returns the transaction's id, the same for the same key.

        Raises a `Failed` with a code of its own when it refuses, which it then does for good. Whatever else it raises
        means that nobody knows.
        """
        ...

    async def refund(self, key: str, amount: int) -> None:
        """Give back what was charged under the key, once."""
        ...


class OutsideProvider:
    """A provider that has a payment processor outside of the database take the money."""

    def __init__(self, writes: Writes, processor: PaymentProcessor) -> None:
        self._writes = writes
        self._processor = processor

    async def charge(self, wish: Charge) -> Charged:
        known = await self._writes.one(ledger.intend, wish)
        if known is not None:
            return _made(known)
        reach("provider.before_charge")
        outcome = await self._ask(wish)
        reach("provider.after_charge")
        return _made(await self._writes.one(ledger.record, outcome))

    async def charge_each(self, wishes: Sequence[Charge]) -> Sequence[None]:
        """None for each: the processor may take long over one of them."""
        return [None] * len(wishes)

    async def refund(self, wish: Charge) -> None:
        if await self._writes.one(ledger.begin_refund, wish):
            return
        reach("provider.before_refund")
        if (await self._ask(wish)).refusal is None:
            await self._processor.refund(wish.key, wish.amount)
        reach("provider.after_refund")
        await self._writes.one(ledger.settle_refund, wish)

    async def _ask(self, wish: Charge) -> Outcome:
        try:
            return Outcome(wish, await self._processor.charge(wish.key, wish.user, wish.amount))
        except CallError as error:
            if isinstance(error, Failed) and not error.code.startswith("skyloom."):
                return Outcome(wish, refusal=error)
            raise


def _made(answer: Charged | Failed) -> Charged:
    if isinstance(answer, Failed):
        raise answer
    return answer
