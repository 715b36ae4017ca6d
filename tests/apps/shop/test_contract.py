"""The shop's routes declare every error of the shop's own; the contract has them."""

from __future__ import annotations

from skyloom import Failed
from skyloom_gateway.contract import contract_of
from skyloom_shop import app, errors


def test_every_error_of_the_shop_belongs_to_a_route() -> None:
    mine = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Failed)} - {
        Failed
    }
    assert len(mine) == 10
    assert mine == {error for route in app.routes.values() for error in route.errors}
    declared = {code for route in contract_of([app]).routes.values() for code in route.errors}
    assert declared == {error.code for error in mine}
