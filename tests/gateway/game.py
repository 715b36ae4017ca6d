"""The echo app as `skyloom gateway tests.gateway.game:app` loads it."""

from tests.gateway.cast import echo as app
from tests.gateway.cast import other

__all__ = ["app", "other"]
