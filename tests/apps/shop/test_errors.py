"""Every error of the shop is declared by a route, so that clients know it."""

from skyloom import Failed
from skyloom_shop import app, errors


def test_every_error_of_the_shop_belongs_to_a_route() -> None:
    mine = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Failed)} - {
        Failed
    }
    assert len(mine) == 10
    assert mine == {error for route in app.routes.values() for error in route.errors}
