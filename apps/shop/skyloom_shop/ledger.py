r"""The money, in SQL: double entry, append-only, in integer minor units; the sum of all entries is 0.

                 charge (wallet)                        begin_refund
    (none) ---------------------------> charged ------------------------> refunded
       | \--intend--> intended --record--^   \--(outside)--> refunding --settle--^
       |                 \--refuse--> refused                    ^
       '--begin_refund--> refunded (a tombstone)    intended ----'

Each function is one transaction's work for many orders, with an answer for each. An order's row in `charges` is its
record of what was done for it, in the same transaction as the entries. A refund before the charge leaves a tombstone,
so that a charge which comes late is refused; a refusal stays, so that it is the same when it is asked for again.

Accounts: a wallet for each user, "sales" of the shop, "grants", from which a new wallet gets its first money, and
"outside", through which the money of other payment providers comes in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from skyloom import Failed
from skyloom.message.errors import error_from_values, error_to_values
from skyloom_shop.crash_points import reach
from skyloom_shop.errors import ChargeVoided, InsufficientFunds, storable
from skyloom_shop.schema import accounts, charges, entries

GRANT_MINOR_UNITS: Final = 10_000
"""What a wallet holds when it is opened."""

SALES: Final = "sales"
GRANTS: Final = "grants"
OUTSIDE: Final = "outside"

_BALANCES = select(accounts.c.name, accounts.c.balance).where(accounts.c.name.in_(bindparam("names", expanding=True)))
_CHARGES = select(charges).where(charges.c.key.in_(bindparam("keys", expanding=True)))
_ADD = update(accounts).where(accounts.c.name == bindparam("of")).values(balance=accounts.c.balance + bindparam("more"))
_SET = (
    update(charges)
    .where(charges.c.key == bindparam("of"))
    .values(
        state=bindparam("becomes"),
        transaction_id=bindparam("transaction"),
        refusal=bindparam("why", type_=charges.c.refusal.type),
        posted=bindparam("is_posted"),
    )
)
_NOTHING: Final[dict[str, Any]] = {"transaction_id": None, "refusal": None, "posted": False, "outside": False}


@dataclass(frozen=True, slots=True)
class Charge:
    """Take `amount` minor units from a user for the order `key`. `at` is in seconds since 1970."""

    key: str
    user: str
    amount: int
    at: float


@dataclass(frozen=True, slots=True)
class Charged:
    """A charge that was made."""

    transaction_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a provider outside answered to a charge: its transaction's id, or its refusal."""

    charge: Charge
    transaction_id: str = ""
    refusal: Failed | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A user who wants to see the wallet. `at` is in seconds since 1970."""

    user: str
    at: float


def wallet(user: str) -> str:
    """The name of a user's account."""
    return f"wallet:{user}"


def transaction_id(key: str) -> str:
    """The id of the wallet's transaction for an order: the same each time it is asked for."""
    return f"T-{sha256(key.encode()).hexdigest()[:24]}"


class _Postings:
    """The entries that a transaction adds, and the balances that they make."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[dict[str, Any]] = []
        self._more: Counter[str] = Counter()
        self.balances: dict[str, int] = {}

    def open_wallets(self, users: Iterable[tuple[str, float]]) -> None:
        """Read the balances of these users; who has no wallet gets one with the first money in it."""
        wanted = {wallet(user): at for user, at in users}
        rows = self._connection.execute(_BALANCES, {"names": sorted(wanted)})
        self.balances = {row.name: row.balance for row in rows}
        new = [name for name in wanted if name not in self.balances]
        if new:
            self._connection.execute(insert(accounts), [{"name": name, "kind": "wallet", "balance": 0} for name in new])
            for name in new:
                self.balances[name] = 0
                self.post(f"grant:{name}", GRANTS, name, GRANT_MINOR_UNITS, wanted[name])

    def post(self, transfer: str, source: str, target: str, amount: int, at: float) -> None:
        """Move money from one account to another. The transfer's name makes it happen once."""
        for account, change in ((source, -amount), (target, amount)):
            self._rows.append({"transfer": transfer, "account": account, "amount": change, "at_seconds": at})
            self._more[account] += change
            if account in self.balances:
                self.balances[account] += change

    def write(self) -> None:
        if self._rows:
            self._connection.execute(insert(entries), self._rows)
            changed = [{"of": name, "more": more} for name, more in sorted(self._more.items()) if more]
            if changed:
                self._connection.execute(_ADD, changed)


def balance(connection: Connection, visits: Sequence[Visit]) -> list[int]:
    """What is in each user's wallet, which is opened if it is new."""
    postings = _Postings(connection)
    postings.open_wallets((visit.user, visit.at) for visit in visits)
    postings.write()
    return [postings.balances[wallet(visit.user)] for visit in visits]


def read_balance(connection: Connection, user: str) -> int | None:
    """What is in a user's wallet; None where there is no wallet yet."""
    found: int | None = connection.execute(
        select(accounts.c.balance).where(accounts.c.name == wallet(user))
    ).scalar_one_or_none()
    return found


def charge(connection: Connection, wishes: Sequence[Charge]) -> list[Charged | Failed]:
    """Charge the wallets: the transaction, or why not (InsufficientFunds, ChargeVoided)."""
    known = _known(connection, (wish.key for wish in wishes))
    postings = _Postings(connection)
    postings.open_wallets((wish.user, wish.at) for wish in wishes if wish.key not in known)
    new: list[dict[str, Any]] = []
    answers: list[Charged | Failed] = []
    for wish in wishes:
        row = known.get(wish.key)
        if row is None:
            left = postings.balances[wallet(wish.user)]
            if left < wish.amount:
                refusal = InsufficientFunds(f"{wish.amount} are needed and {left} are in the wallet")
                row = _row(wish, "refused", **_refused(refusal))
            else:
                postings.post(f"charge:{wish.key}", wallet(wish.user), SALES, wish.amount, wish.at)
                row = _row(wish, "charged", transaction_id=transaction_id(wish.key), posted=True)
            known[wish.key] = row
            new.append(row)
        answers.append(_of_state(row))
    if new:
        connection.execute(insert(charges), new)
    postings.write()
    reach("ledger.in_charge")
    return answers


def begin_refund(connection: Connection, wishes: Sequence[Charge]) -> list[bool]:
    """Give back what each order was charged to its wallet, or see to it that it never will be: True when that is done.

    False: the money came from outside, and has to be given back there before `settle_refund`.
    """
    known = _known(connection, (wish.key for wish in wishes))
    postings = _Postings(connection)
    new: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    answers: list[bool] = []
    for wish in wishes:
        row = known.get(wish.key)
        if row is None:
            row = known[wish.key] = _row(wish, "refunded")
            new.append(row)
        elif row["state"] == "charged" and not row["outside"]:
            postings.post(f"refund:{wish.key}", SALES, wallet(row["user_name"]), row["amount"], wish.at)
            changes.append(_change(row, "refunded"))
        elif row["state"] in ("charged", "intended"):
            changes.append(_change(row, "refunding"))
        answers.append(row["state"] != "refunding")
    if new:
        connection.execute(insert(charges), new)
    if changes:
        connection.execute(_SET, changes)
    postings.write()
    reach("ledger.in_refund")
    return answers


# -- money from outside ----------------------------------------------------------------------------------------


def intend(connection: Connection, wishes: Sequence[Charge]) -> list[Charged | Failed | None]:
    """Write down that a provider outside will be asked: None to ask it, or what is known already."""
    known = _known(connection, (wish.key for wish in wishes))
    new: list[dict[str, Any]] = []
    answers: list[Charged | Failed | None] = []
    for wish in wishes:
        row = known.get(wish.key)
        if row is None:
            row = known[wish.key] = _row(wish, "intended", outside=True)
            new.append(row)
        answers.append(None if row["state"] == "intended" else _of_state(row))
    if new:
        connection.execute(insert(charges), new)
    return answers


def record(connection: Connection, outcomes: Sequence[Outcome]) -> list[Charged | Failed]:
    """Write down what the provider answered: the transaction, or why there is none."""
    known = _known(connection, (outcome.charge.key for outcome in outcomes))
    postings = _Postings(connection)
    changes: list[dict[str, Any]] = []
    answers: list[Charged | Failed] = []
    for outcome in outcomes:
        row = known[outcome.charge.key]
        if row["state"] == "intended" and outcome.refusal is not None:
            changes.append(_change(row, "refused", **_refused(outcome.refusal)))
        elif row["state"] == "intended":
            postings.post(f"charge:{row['key']}", OUTSIDE, SALES, row["amount"], outcome.charge.at)
            changes.append(_change(row, "charged", transaction_id=outcome.transaction_id, posted=True))
        answers.append(_of_state(row))
    if changes:
        connection.execute(_SET, changes)
    postings.write()
    reach("ledger.in_charge")
    return answers


def settle_refund(connection: Connection, wishes: Sequence[Charge]) -> list[None]:
    """Write down that the provider has given the money back, or never took it."""
    known = _known(connection, (wish.key for wish in wishes))
    postings = _Postings(connection)
    changes: list[dict[str, Any]] = []
    for wish in wishes:
        row = known[wish.key]
        if row["state"] == "refunding":
            if row["posted"]:
                postings.post(f"refund:{wish.key}", SALES, OUTSIDE, row["amount"], wish.at)
            changes.append(_change(row, "refunded"))
    if changes:
        connection.execute(_SET, changes)
    postings.write()
    reach("ledger.in_refund")
    return [None] * len(wishes)


def _known(connection: Connection, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    rows = connection.execute(_CHARGES, {"keys": sorted(set(keys))})
    return {row.key: dict(row._mapping) for row in rows}


def _row(wish: Charge, state: str, **more: Any) -> dict[str, Any]:
    return {"key": wish.key, "user_name": wish.user, "amount": wish.amount, "state": state, **_NOTHING, **more}


def _change(row: dict[str, Any], state: str, **more: Any) -> dict[str, Any]:
    """Change a row, also here, for a key that is there twice; what is not given stays."""
    row.update(more, state=state)
    return {
        "of": row["key"],
        "becomes": state,
        "transaction": row["transaction_id"],
        "why": row["refusal"],
        "is_posted": row["posted"],
    }


def _refused(refusal: Failed) -> dict[str, Any]:
    return {"refusal": storable(error_to_values(refusal))}


def _of_state(row: dict[str, Any]) -> Charged | Failed:
    """The answer to a charge, by the row that there is."""
    if row["state"] == "charged":
        return Charged(row["transaction_id"])
    if row["state"] == "refused":
        refusal = error_from_values(tuple(row["refusal"]))
        assert isinstance(refusal, Failed)
        return refusal
    return ChargeVoided("this charge was taken back before it was made")
