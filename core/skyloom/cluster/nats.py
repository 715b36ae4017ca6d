"""The transport over NATS: a node's connection to the others by way of a NATS server with JetStream.

    node = Node("game-1", transport=NatsTransport("nats://127.0.0.1:4222"))

Core NATS carries the messages, JetStream the leases. A connection to the server is one *incarnation* of the node
(`members`): when it breaks, all that was under way is lost, both ways and for good, the others see this node go, and
the next connection joins as a new incarnation. So nothing that was written before is delivered afterwards.

    skyloom.CLUSTER.to.NODE.INCARNATION    messages to a node: [from, its incarnation, message, ...]
    skyloom.CLUSTER.members                each node, every second: [ALIVE or LEFT, node, incarnation, names]

Whether the server is there a node learns from hearing its own word; the client library would wait for ever for a
server that hangs with full sockets. A node whose loop stood still for so long that others have lost it joins anew.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from skyloom.cluster.transport import LEASE_SECONDS, RENEW_SECONDS, NotConnected
from skyloom.message.errors import CannotStart, PackageMissing

try:
    from nats.errors import Error as NatsError
    from nats.js.errors import ServiceUnavailableError

    from skyloom.cluster.leases import Leases
    from skyloom.cluster.nats_life import CLOSE_SECONDS, TICK_SECONDS, Life, end_tasks
except ModuleNotFoundError as error:
    raise PackageMissing(
        "a cluster needs the package nats-py: pip install 'skyloom[cluster]'", name=error.name
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyloom.message.address import Address

PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0
"""Between two tries to connect, with chance in it, so that not all nodes come at once after a restart."""

NAME_SECONDS: Final = LEASE_SECONDS + 3.0
"""How long `start` waits for a node of the same name to be gone: one that was killed holds its name until then."""

log = structlog.get_logger("skyloom.cluster")


class ClusterError(CannotStart):
    """This node cannot join the cluster; the text says why and what to do."""


class NatsTransport:
    """See the module's docstring.

    Args:
        url: of the server, as ``nats://HOST:4222``; several, separated by commas, of one NATS cluster.
        cluster: nodes of the same name see each other; letters, digits, ``_-``.

    Raises:
        ClusterError: the cluster's name is not one.
    """

    def __init__(self, url: str, *, cluster: str = "skyloom") -> None:
        if re.fullmatch(r"[A-Za-z0-9_-]+", cluster) is None:
            raise ClusterError(f"cluster {cluster!r}: a name is letters, digits, _ and -")
        self._servers = [each.strip() for each in url.split(",")]
        for server in self._servers:
            if not _is_url(server):
                raise ClusterError(f"NATS at {_shown(server)}: write it as nats://HOST:4222")
        self._where = ", ".join(map(_shown, self._servers))
        self._cluster = cluster
        self._leases = Leases(f"skyloom-{cluster}", secrets.token_hex(8))
        self._names: dict[str, int] = {}
        self._life: Life | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, node: str, receive: Callable[[str, bytes], None], lost: Callable[[str], None]) -> None:
        """Raises ClusterError: no server there, one without JetStream, or the node's name is taken."""
        self._node, self._receive, self._lost = node, receive, lost
        loop = asyncio.get_running_loop()
        deadline = loop.time() + NAME_SECONDS
        waits = False
        while True:
            try:
                life = await self._begin()
                break
            except _NameTaken as taken:
                if taken.lives or loop.time() >= deadline:
                    raise ClusterError(f"{taken}: give this one another name") from None
                if not waits:
                    log.info("waiting for the node of this name to be gone", node=node, seconds=NAME_SECONDS)
                waits = True
                await asyncio.sleep(TICK_SECONDS)  # noqa: TID251  # a real network has the real time
            except (NatsError, NotConnected, OSError, TimeoutError) as error:
                raise ClusterError(
                    f"NATS at {self._where} does not let this node join: {_reason(error)}; it has to be nats-server"
                    " 2.11 or newer, started with -js"
                ) from error
        self._task = loop.create_task(self._keep(life), name="skyloom cluster")  # owned by `stop`
        self._task.add_done_callback(_complain)

    async def _begin(self) -> Life:
        """Connect and join. What it raises leaves nothing behind."""
        life = Life(self._servers, self._cluster, self._node, self._receive, self._lost, self._names)
        try:
            await life.connect()
            await self._leases.bind(life.jetstream)
            _, incarnation = await self._leases.hold(f"node.{self._node}")
            if incarnation == 0:
                raise _NameTaken(self._cluster, self._node, lives=await life.hears(self._node))
            others = await self._leases.keys("node")
            self._life = life  # before it joins: what comes from then on is to be answered
            await life.join(incarnation, others)
        except BaseException:
            await self._end(life)
            raise
        return life

    async def _end(self, life: Life) -> None:
        self._life = None
        self._leases.unbind()
        life.end()
        await life.close()

    async def _keep(self, life: Life) -> None:
        """Live one life after the other."""
        while True:
            reason = await life.run(self._renew)
            log.warning("left the cluster, to join it again", node=self._node, reason=reason)
            await self._end(life)
            life = await self._begin_again()
            log.info("joined the cluster again", node=self._node, nodes=sorted(life.members))

    async def _renew(self) -> None:
        """Keep the node's own name."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)  # noqa: TID251  # as above
            with suppress(NotConnected):  # should it last, the node does not hear itself any more
                token, _ = await self._leases.hold(f"node.{self._node}")
                if token == 0 and self._life is not None:
                    self._life.break_off(f"the cluster has another node {self._node!r}")

    async def _begin_again(self) -> Life:
        pause, tries = PAUSE_SECONDS, 0
        while True:
            await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))  # noqa: TID251  # as above
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
            tries += 1
            try:
                return await self._begin()
            except Exception as error:  # noqa: BLE001  # whatever it is, without another try the node stays alone
                if tries.bit_count() == 1:  # the 1st, 2nd, 4th, ... time
                    log.warning("cannot join the cluster", node=self._node, tries=tries, reason=_reason(error))

    async def stop(self) -> None:
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None
        life, self._life = self._life, None
        if life is None:
            return
        with suppress(NatsError, NotConnected, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await life.goodbye()
                await self._leases.release_all()
        self._leases.unbind()
        await life.close()

    # -- messages and names ------------------------------------------------------------------------------------

    def send(self, node: str, data: bytes) -> None:
        if self._life is None:
            raise NotConnected(f"node {node!r} is not connected: there is no connection to NATS")
        self._life.send(node, data)

    def nodes(self) -> list[str]:
        return [] if self._life is None else sorted(self._life.members)

    def announce(self, name: str, address: Address) -> None:
        self._names[name] = address.handle
        if self._life is not None:
            self._life.names_changed()

    def withdraw(self, name: str, address: Address) -> None:
        if self._names.get(name) == address.handle:
            del self._names[name]
            if self._life is not None:
                self._life.names_changed()

    async def resolve(self, name: str) -> Address | None:
        life = self._life
        if life is None:
            return None
        found = life.members.find(name)
        if found is None:
            await life.look()
            found = life.members.find(name)
        return found

    # -- leases ------------------------------------------------------------------------------------------------

    async def hold(self, key: str) -> int:
        token, _ = await self._leases.hold(f"held.{key}")
        return token

    async def release(self, key: str) -> None:
        await self._leases.release(f"held.{key}")


class _NameTaken(Exception):
    """Another node of the cluster has the name: one that lives, or one that has not been gone for long enough."""

    def __init__(self, cluster: str, node: str, *, lives: bool) -> None:
        super().__init__(f"the cluster {cluster!r} has a node {node!r} already")
        self.lives = lives


def _complain(keeping: asyncio.Task[None]) -> None:
    if not keeping.cancelled() and (error := keeping.exception()) is not None:
        log.critical("this node does not join its cluster any more, by a fault of ours", exc_info=error)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _shown(url: str) -> str:
    """The address without user, password or token."""
    return re.sub(r"//[^/]*@", "//", url)


def _reason(error: BaseException) -> str:
    if isinstance(error, ServiceUnavailableError):
        return "it has no JetStream"
    return f"{type(error).__name__} {error}".rstrip()
