"""What a service crashes of."""

from __future__ import annotations


class Crash(Exception):  # it is what happened, as in skyloom.message.errors
    """Stands for the exception where a service gave `Service.crash` a text."""
