"""Skyloom's shop: a catalogue, wallets, and orders that are never doubled. Serve it with

skyloom gateway skyloom_shop:app
"""

from typing import TYPE_CHECKING

from skyloom_gateway import App
from skyloom_shop.agent import ShopAgent
from skyloom_shop.database import ShopDatabase
from skyloom_shop.inventory import Inventory
from skyloom_shop.messages import OrderUpdated, StockChanged
from skyloom_shop.order import OrderService
from skyloom_shop.payment import Payment
from skyloom_shop.relay import Relay

if TYPE_CHECKING:
    from skyloom import Service


def make_app(*, database: "type[Service]" = ShopDatabase, payment: "type[Service]" = Payment) -> App:
    """The app, perhaps with another database or another way to pay: subclasses of `ShopDatabase` and `Payment`."""
    return App(
        "shop",
        agent=ShopAgent,
        services=[database, Inventory, payment, OrderService, Relay],
        pushes=[OrderUpdated, StockChanged],
        pages="skyloom_shop/page",
        title="Shop",
        description="Orders that are never doubled: stock, wallet and orders on SQL.",
    )


app = make_app()

__all__ = ["ShopAgent", "app", "make_app"]
