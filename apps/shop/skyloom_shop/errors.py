"""What a shop's client may be told, each with its stable code."""

from __future__ import annotations

from typing import Final

from pydantic_core import to_jsonable_python

from skyloom import Failed

FAILURE_CHARS_MAX: Final = 500
"""What is kept of a failure's message."""


class OutOfStock(Failed, code="shop.out_of_stock", kind="failed_precondition"):
    """Not enough is left; `details["skus"]` names of what. The order has failed: order again, with a new id."""


class InsufficientFunds(Failed, code="shop.insufficient_funds", kind="failed_precondition"):
    """The wallet does not hold the total. The order has failed: order again, with a new id."""


class UnknownSku(Failed, code="shop.unknown_sku", kind="not_found"):
    """An item is not in the catalogue; `details["skus"]` names it. There is no order of that id."""


class OrderMismatch(Failed, code="shop.order_mismatch", kind="already_exists"):
    """The user has an order of that id already, with other items."""


class OrderNotFound(Failed, code="shop.order_not_found", kind="not_found"):
    """The user has no order of that id."""


class OrderFailed(Failed, code="shop.order_failed", kind="aborted"):
    """A part of the shop failed, and the order was taken back whole: nothing is held or charged. Use a new id."""


class TooManyOrders(Failed, code="shop.too_many_orders", kind="resource_exhausted", retryable=True):
    """The user has as many unfinished orders as are allowed. Nothing was begun: try again with the same id."""


class StorageFailed(Failed, code="shop.storage_failed", kind="unavailable", retryable=True):
    """The database did not answer. Try again with the same id; what was done is not done twice."""


class HoldLost(Failed, code="shop.hold_lost", kind="aborted"):
    """The stock that was held for an order was given back meanwhile; the order has failed and is refunded."""


class ChargeVoided(Failed, code="shop.charge_voided", kind="aborted"):
    """The charge was taken back before it came; it will not be made."""


def storable(values: tuple[object, ...]) -> list[object]:
    """An error's values (`skyloom.message.errors.error_to_values`) as JSON can hold them, for a table."""
    name, code, message, kind, retryable, details = values
    text = str(message).replace("\0", "")[:FAILURE_CHARS_MAX]
    return [name, code, text, kind, retryable, to_jsonable_python(details, fallback=lambda value: type(value).__name__)]
