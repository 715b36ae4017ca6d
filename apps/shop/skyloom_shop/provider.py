"""Who takes the money: the interface of a payment provider, and how one outside of the database is asked safely.

The wallet of the demo needs none of this: its charge and the record of it are one transaction. A provider outside may
time out after charging, answer twice or late, or fail; so what is to be done is written down before it is asked, and
what it answered after. What it must keep is what payment companies call an idempotency key:

- a charge with a key that it has seen is answered as the first time, and charges nothing;
- a refund of a key that it has refunded does nothing.

An answer that was lost is then found by asking again. So is the fate of a charge that is to be taken back: it is
asked for once more, which settles it, and refunded if it was made. A late one cannot follow, for it has the same key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skyloom import CallError, Failed
from skyloom_shop.crash_points import reach
from skyloom_shop.ledger import Charge, Charged, Outcome, begin_refund, intend, record, settle_refund

if TYPE_CHECKING:
    from skyloom_shop.database import Writes


class PaymentProvider(Protocol):
    """What takes money from users, see the module's docstring. Amounts are in minor units."""

    async def charge(self, key: str, user: str, amount: int) -> str:
        """Charge a user, once for each key; returns the transaction's id, the same for the same key.

        Raises a `Failed` with a code of its own when it refuses, which it then does for good. Whatever else it raises
        means that nobody knows.
        """
        ...

    async def refund(self, key: str, amount: int) -> None:
        """Give back what was charged under the key, once."""
        ...


async def charge_outside(provider: PaymentProvider, writes: Writes, wish: Charge) -> Charged | Failed:
    """Have a provider charge: the transaction, or its refusal. Raises whatever leaves it unknown."""
    known = await writes.one(intend, wish)
    if known is not None:
        return known
    reach("provider.before_charge")
    outcome = await _ask(provider, wish)
    reach("provider.after_charge")
    return await writes.one(record, outcome)


async def refund_outside(provider: PaymentProvider, writes: Writes, wish: Charge) -> None:
    """Have a provider give back what it charged, or will have charged. Raises whatever leaves it undone."""
    if await writes.one(begin_refund, wish):
        return
    reach("provider.before_refund")
    if (await _ask(provider, wish)).refusal is None:
        await provider.refund(wish.key, wish.amount)
    reach("provider.after_refund")
    await writes.one(settle_refund, wish)


async def _ask(provider: PaymentProvider, wish: Charge) -> Outcome:
    try:
        return Outcome(wish, await provider.charge(wish.key, wish.user, wish.amount))
    except CallError as error:
        if isinstance(error, Failed) and not error.code.startswith("skyloom."):
            return Outcome(wish, refusal=error)
        raise
