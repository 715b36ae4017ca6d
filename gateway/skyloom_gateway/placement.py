"""Where the services of apps run: in this process, or, in a cluster, on one node at a time.

In a cluster every process offers to run the services of the apps that it serves. For each app one process does, by a
lease, and the others stand by; agents find the services by name wherever they are. So the same command serves alone,
beside others, and in the place of one that died.
"""

from __future__ import annotations

import re
import secrets
import socket
from typing import TYPE_CHECKING, Final

import structlog

from skyloom import Node
from skyloom.supervision.child import permanent
from skyloom.supervision.supervisor import Supervisor
from skyloom_gateway.app import AppError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from skyloom import Service
    from skyloom.cluster.transport import Transport
    from skyloom.supervision.child import Child
    from skyloom_gateway.app import App
    from skyloom_gateway.settings import Settings

DATABASE_ENV: Final = "database_url"
"""Where services find the database's URL: ``self.getenv("database_url")``."""

MADE_UP_NAME_CHARS: Final = 48

log = structlog.get_logger("skyloom.server")


def refuse_conflicts(apps: Sequence[App], settings: Settings) -> None:
    """Raises AppError for two services of one name, and in a cluster for a service of two apps."""
    names = ", ".join(app.name for app in apps)
    by_name: dict[str | None, type[Service]] = {}
    for app in apps:
        for cls in app.services:
            known = by_name.setdefault(cls.name, cls)
            if known is not cls:
                raise AppError(f"apps {names}: two services are named {cls.name!r}; change one of the names")
            if settings.cluster.nats is not None and any(cls in other.services for other in apps if other is not app):
                raise AppError(
                    f"apps {names}: they share the service {cls.name!r}, but in a cluster each app's services may run"
                    " on another node: put it into one app, and call it by name from the other"
                )


def make_node(settings: Settings, rng: random.Random) -> Node:
    """The node of this process. Raises CannotStart: the packages for a cluster are not installed."""
    name = settings.node
    transport: Transport | None = None
    cluster = settings.cluster
    if cluster.nats is not None:
        from skyloom.cluster.nats import NatsTransport

        transport = NatsTransport(cluster.nats, cluster=cluster.name)
        if settings.origin("node") == "default":
            name = _made_up_name()
    env = {DATABASE_ENV: settings.database}
    return Node(name, rng=rng, transport=transport, env=env, watch_loop=False)


def _made_up_name() -> str:
    """A name that no other process has: the host's, and some chance."""
    host = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname().partition(".")[0]).strip("-_")
    return f"{host[:MADE_UP_NAME_CHARS] or 'node'}-{secrets.token_hex(3)}"


async def start_services(node: Node, apps: Sequence[App], settings: Settings) -> None:
    """Start each app's services under a supervisor of its own, and these under one at the root.

    In a cluster they may be running on another node; then this one stands by.
    """
    in_a_cluster = settings.cluster.nats is not None
    if in_a_cluster and not settings.cluster.services:
        return
    if in_a_cluster and settings.database.startswith("sqlite:"):
        log.warning("services that move to another machine do not find what is in a SQLite file: use PostgreSQL there")
    await node.spawn(Supervisor, *_children(apps, in_a_cluster=in_a_cluster))


def _children(apps: Sequence[App], *, in_a_cluster: bool) -> Iterator[Child]:
    names: set[str | None] = set()
    for app in apps:
        services = [cls for cls in app.services if cls.name not in names]  # apps may share a service
        names.update(cls.name for cls in services)
        children = map(permanent, services)
        if not in_a_cluster:
            yield permanent(Supervisor, *children).but(id=app.name)
        elif services:
            from skyloom.cluster.singleton import Singleton

            yield permanent(Singleton, f"app.{app.name}", *children).but(id=app.name)
