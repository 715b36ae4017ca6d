"""What must hold in the shop's database, whatever has crashed: one function looks at all of it.

    stock     available, held and sold are never below 0, and add up to what was stocked; what is held and sold is what
              the holds say
    money     the entries add up to 0; each balance is the sum of its entries; no wallet is below 0
    orders    a done order has its charge kept and its stock sold, at its total and with its lines; a failed one has
              neither; and nobody else has any

While orders are under way only the first two can hold; once all have ended, all three do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from skyloom.patterns.saga_store import SagaStatus
from skyloom_shop.ledger import GRANTS, OUTSIDE, SALES
from skyloom_shop.order_state import STATES, OrderState
from skyloom_shop.schema import accounts, charges, entries, holds, items, orders, restocks


def violations(connection: Connection, *, all_ended: bool = True) -> list[str]:
    """Everything that is wrong, in words; nothing when all is well. With `all_ended` an unfinished order is wrong."""
    return [*_stock(connection), *_money(connection), *_orders(connection, all_ended)]


def _stock(connection: Connection) -> Iterator[str]:
    pieces: dict[str, Counter[str]] = defaultdict(Counter)
    for row in connection.execute(select(holds)):
        for sku, quantity in row.lines:
            pieces[row.state][sku] += quantity
    held, sold = pieces["held"], pieces["sold"]
    sums = select(restocks.c.sku, func.sum(restocks.c.quantity).label("pieces")).group_by(restocks.c.sku)
    stocked = {row.sku: row.pieces for row in connection.execute(sums)}
    for item in connection.execute(select(items)):
        if min(item.available, item.held, item.sold) < 0:
            yield f"{item.sku}: {item.available} available, {item.held} held, {item.sold} sold"
        if item.available + item.held + item.sold != stocked.get(item.sku, 0):
            yield (
                f"{item.sku}: {item.available} available, {item.held} held and {item.sold} sold are not the "
                f"{stocked.get(item.sku, 0)} that were stocked"
            )
        if item.held != held[item.sku]:
            yield f"{item.sku}: {item.held} held, but the holds say {held[item.sku]}"
        if item.sold != sold[item.sku]:
            yield f"{item.sku}: {item.sold} sold, but the holds say {sold[item.sku]}"


def _money(connection: Connection) -> Iterator[str]:
    sums: dict[str, int] = {}
    transfers: Counter[str] = Counter()
    for row in connection.execute(select(entries)):
        sums[row.account] = sums.get(row.account, 0) + row.amount
        transfers[row.transfer] += row.amount
    yield from (f"transfer {name!r} does not add up: {amount}" for name, amount in transfers.items() if amount)
    if sum(sums.values()):
        yield f"the ledger adds up to {sum(sums.values())}"
    for account in connection.execute(select(accounts)):
        if account.balance != sums.get(account.name, 0):
            yield f"{account.name!r} has {account.balance}, but its entries say {sums.get(account.name, 0)}"
        if account.kind == "wallet" and account.balance < 0:
            yield f"{account.name!r} is overdrawn: {account.balance}"
    kept: dict[bool, int] = {False: 0, True: 0}
    for row in connection.execute(select(charges.c.outside, charges.c.amount).where(charges.c.state == "charged")):
        kept[row.outside] += row.amount
    refunding = connection.execute(
        select(func.count()).where(charges.c.state == "refunding", charges.c.posted.is_(True))
    ).scalar_one()
    if not refunding:
        if sums.get(SALES, 0) != sum(kept.values()):
            yield f"{SALES} holds {sums.get(SALES, 0)}, but the charges kept are {sum(kept.values())}"
        if sums.get(OUTSIDE, 0) != -kept[True]:
            yield f"{OUTSIDE} holds {sums.get(OUTSIDE, 0)}, but the charges kept from there are {kept[True]}"
    if sums.get(GRANTS, 0) > 0:
        yield f"{GRANTS} holds {sums[GRANTS]}, but it only gives"


def _orders(connection: Connection, all_ended: bool) -> Iterator[str]:
    hold_of: dict[str, Any] = {row.key: row for row in connection.execute(select(holds))}
    charge_of: dict[str, Any] = {row.key: row for row in connection.execute(select(charges))}
    seen = set()
    for order in connection.execute(select(orders)):
        seen.add(order.key)
        hold, charge = hold_of.get(order.key), charge_of.get(order.key)
        state = OrderState(order.state)
        if STATES[SagaStatus(order.saga_status), order.steps_done] is not state:
            yield f"order {order.key!r} is {state}, but its saga {order.saga_status} after {order.steps_done} steps"
        if not state.ended:
            if all_ended:
                yield f"order {order.key!r} is still {state}"
            continue
        is_sold = hold is not None and hold.state == "sold"
        is_charged = charge is not None and charge.state == "charged"
        if state is OrderState.DONE:
            if not is_sold or hold is None or hold.lines != order.lines:
                yield f"order {order.key!r} is done, but its stock is {hold.state if hold else 'not held'}"
            if not is_charged or charge is None or charge.amount != order.total:
                yield f"order {order.key!r} is done, but its charge is {charge.state if charge else 'not there'}"
            elif charge.transaction_id != order.transaction_id:
                yield f"order {order.key!r} names another transaction than its charge"
        elif is_sold or (hold is not None and hold.state == "held"):
            yield f"order {order.key!r} has failed, but its stock is {hold.state if hold else ''}"
        elif is_charged or (charge is not None and charge.state in ("intended", "refunding")):
            yield f"order {order.key!r} has failed, but its charge is {charge.state if charge else ''}"
    for key in sorted((hold_of.keys() | charge_of.keys()) - seen):
        yield f"there is a hold or a charge for {key!r}, but no such order"
