"""The process that runs a cluster's services is killed while people talk and buy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster_chat import AWAY, Person, make_room
from tests.e2e.cluster_crowd import crowd_at
from tests.e2e.cluster_process import CHAT_AND_SHOP, cluster_of
from tests.e2e.shop_process import DATABASES, check, make_database, stock_up
from tests.nats import NatsServer, running_nats
from tests.postgres import binaries

pytestmark = pytest.mark.ci

LOAD_SECONDS = 1.0


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with running_nats() as server:
        yield server


async def test_another_gateway_takes_over_and_finishes_every_order(
    request: pytest.FixtureRequest, nats: NatsServer, tmp_path: Path
) -> None:
    """On both databases at the same time, since most of it is waiting for a lease to end."""
    async with asyncio.TaskGroup() as group:
        for database in DATABASES if binaries() else DATABASES[:1]:
            folder = tmp_path / database
            folder.mkdir()
            url = make_database(request, database, folder)
            group.create_task(kill_under_load(nats.url, database, folder, url))


async def kill_under_load(nats: str, name: str, folder: Path, url: str) -> None:
    await stock_up(url, "arrows", 10_000)
    async with cluster_of(folder, nats, name, apps=CHAT_AND_SHOP, database=url) as cluster:
        old, new = cluster.gateway("old", services=True), cluster.gateway("new", services=True)
        await cluster.start(old)
        await cluster.start(new)
        assert cluster.holder("shop") is cluster.holder("chat") is old
        await make_room(new, "hall")
        gone, stays = await Person.enter(old, "bob", "hall"), await Person.enter(new, "ada", "hall")
        async with crowd_at(new, old) as crowd:
            stays.talk("ada")
            await asyncio.sleep(LOAD_SECONDS)
            before = crowd.done
            await old.kill()
            await asyncio.gather(*(cluster.took(app, new) for app in ("chat", "shop")))
            await stays.is_answered("ada is back")
            await stays.hush()
            await asyncio.sleep(LOAD_SECONDS)
            await crowd.end()
            await check(url, all_ended=True)
            crowd.buyer.shops = (new,)
            await crowd.buyer.ask_all_again()
        assert crowd.done > before > 0
        assert crowd.buyer.refusals <= AWAY
        stored = await stays.stored()
        assert {id: stored.get(id) for id in stays.said} == stays.said
        assert {*stored.values()} - {*stays.said.values()} <= stays.failed
        assert stays.codes <= AWAY
        assert await stays.members() == ["ada"]
        assert not stays.client.closed
        for person in (gone, stays):
            await person.client.close()
