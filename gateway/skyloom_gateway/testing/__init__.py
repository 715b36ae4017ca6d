"""Test an app as its players see it, in memory and in virtual time: `TestGateway` and `Player`."""

from skyloom_gateway.testing.gateway import BY_HAND, TestGateway
from skyloom_gateway.testing.link import MemoryLink
from skyloom_gateway.testing.player import Player

__all__ = ["BY_HAND", "MemoryLink", "Player", "TestGateway"]
