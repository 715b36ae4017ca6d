"""What shop clients and the server say to each other: bodies of requests, answers and pushes.

The wire names and bounds are those of docs/reference/shop.md. Fields that a model does not know are ignored, so that
a newer client may talk to an older server. Money is in minor units, as integers.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from skyloom_gateway.push import Push

ORDER_ID_CHARS_MAX: Final = 64
SKU_CHARS_MAX: Final = 64
LINES_OF_ORDER_MAX: Final = 50
"""Lines in one order, the same item twice counted twice."""
QUANTITY_MAX: Final = 99
"""Pieces in one line."""
ORDERS_LISTED_MAX: Final = 100
ORDERS_LISTED_DEFAULT: Final = 20


def _storable(text: str) -> str:
    """PostgreSQL stores every character but U+0000."""
    if "\0" in text:
        raise PydanticCustomError("text_null", "must not contain the character U+0000")
    return text


OrderId = Annotated[
    str,
    Field(min_length=1, max_length=ORDER_ID_CHARS_MAX, description="chosen by the client"),
    AfterValidator(_storable),
]
Sku = Annotated[str, Field(min_length=1, max_length=SKU_CHARS_MAX), AfterValidator(_storable)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Item(_Body):
    """An item of the catalogue: `price` in minor units for one, `available` pieces that can be ordered now."""

    sku: str
    name: str
    price: int
    available: int


class CatalogQuery(_Body):
    """List what is for sale, and hear from then on when the stock changes."""


class Catalog(_Body):
    """What is for sale."""

    items: list[Item]


class BalanceQuery(_Body):
    """Ask how much money the user has."""


class Balance(_Body):
    """The user's money, in minor units."""

    balance: int


class Line(_Body):
    """So many pieces of an item."""

    sku: Sku
    qty: Annotated[int, Field(strict=True, ge=1, le=QUANTITY_MAX)]


class PlaceOrder(_Body):
    """Buy. The order's id makes a repeated request harmless: it is answered as the first was.

    An item that is there twice is bought as often as both say; the order of the items does not matter.
    """

    order_id: OrderId
    items: Annotated[list[Line], Field(min_length=1, max_length=LINES_OF_ORDER_MAX)]


class Placed(_Body):
    """The order is paid and yours. `status` is "confirmed"."""

    order_id: str
    status: str
    transaction_id: str
    total: int


class OrderQuery(_Body):
    """Ask how far one of the user's orders is."""

    order_id: OrderId


class OrderInfo(_Body):
    """An order: `items` sorted by sku, each once; `transaction_id` once it is paid."""

    order_id: str
    status: str
    transaction_id: str | None = None
    total: int
    items: list[Line]


class OrdersQuery(_Body):
    """List the user's orders, the newest first."""

    limit: Annotated[int, Field(strict=True, ge=1, le=ORDERS_LISTED_MAX)] = ORDERS_LISTED_DEFAULT


class Orders(_Body):
    """Orders of the user, the newest first."""

    orders: list[OrderInfo]


class OrderUpdated(Push, route="shop.order_updated"):
    """An order of the user has a new status; every session of theirs is told."""

    order_id: str
    status: str


class Stock(_Body):
    """How many pieces of an item can be ordered now."""

    sku: str
    available: int


class StockChanged(Push, route="shop.stock_changed"):
    """Items whose stock has changed, for those who have listed what is for sale; at most once in 0.25 s."""

    items: list[Stock]
