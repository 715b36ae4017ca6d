"""What the demo sells, put into the database once by `skyloom_shop.stock.seed`."""

from __future__ import annotations

from typing import Final, NamedTuple


class Ware(NamedTuple):
    """An item to sell: `price` in minor units for one, `quantity` pieces to begin with."""

    sku: str
    name: str
    price: int
    quantity: int


DEMO: Final = (
    Ware("potion", "Healing potion", 120, 500),
    Ware("arrows", "Bundle of arrows", 80, 1_000),
    Ware("torch", "Torch that never goes out", 250, 200),
    Ware("shield", "Oak shield", 1_400, 60),
    Ware("sword", "Steel sword", 2_500, 40),
    Ware("cloak", "Cloak of shadows", 4_200, 25),
    Ware("horse", "Riding horse", 7_500, 12),
    Ware("dragon-egg", "Dragon egg", 9_900, 3),
)
