"""A node that runs the services of apps, and no gateway: ``skyloom node``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from skyloom_gateway.placement import make_node, refuse_conflicts, start_services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_gateway.app import App
    from skyloom_gateway.settings import Settings


class AppNode:
    """Runs the apps' services in a cluster, for the gateways and nodes that `settings` let it find there.

    Raises:
        AppError: two services have the same name, or two apps share one.
    """

    def __init__(self, apps: Sequence[App], settings: Settings) -> None:
        refuse_conflicts(apps, settings)
        self.apps = tuple(apps)
        self.settings = settings
        rng = random.Random(settings.seed) if settings.seed is not None else random.SystemRandom()
        self.node = make_node(settings, rng)

    def check(self) -> None:
        """Look for what would keep it from starting. Raises AppError."""
        for app in self.apps:
            app.check_services(self.node.env)

    async def start(self) -> None:
        """Join the cluster, and start the services or stand by. Raises CannotStart, and what services raise."""
        await self.node.start()
        try:
            await start_services(self.node, self.apps, self.settings)
        except BaseException:
            await self.node.stop()
            raise
        self.node.watch_loop()  # only now: imports and migrations at the start take their time

    def started(self) -> None:
        """Nothing more to do: it has no signals of its own."""

    async def failed(self) -> str:
        """Wait until it cannot go on; says why."""
        return await self.node.failed()

    async def stop(self) -> None:
        """Stop the services; another node takes over."""
        await self.node.stop()
