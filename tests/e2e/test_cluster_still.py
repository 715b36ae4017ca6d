"""A node stands still for longer than its lease, and then goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.e2e.cluster_chat import AWAY, Person, make_room
from tests.e2e.cluster_crowd import crowd_at
from tests.e2e.cluster_process import CHAT_AND_SHOP, ENDED, cluster_of
from tests.e2e.shop_process import check, stock_up
from tests.nats import running_nats

pytestmark = pytest.mark.ci

LOAD_SECONDS = 1.0


async def test_another_node_takes_over_and_nobody_is_served_by_two(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    await stock_up(url, "arrows", 10_000)
    with running_nats() as nats:
        async with cluster_of(tmp_path, nats.url, "still", apps=CHAT_AND_SHOP, database=url) as cluster:
            gateway, old, new = cluster.gateway("gateway"), cluster.node("old"), cluster.node("new")
            await cluster.start(old)
            await cluster.start(new, gateway)
            await make_room(gateway, "hall")
            ada, ear = await Person.enter(gateway, "ada", "hall"), await Person.enter(gateway, "ear", "hall")
            async with crowd_at(gateway) as crowd:
                ada.talk("before")
                await asyncio.sleep(LOAD_SECONDS)
                await ada.hush()
                before = crowd.done
                old.signal(signal.SIGSTOP)
                try:
                    ada.talk("away")  # the first words lie in wait for the old one
                    await asyncio.gather(*(cluster.took(app, new) for app in ("chat", "shop")))
                    await asyncio.sleep(LOAD_SECONDS)
                finally:
                    old.signal(signal.SIGCONT)
                await ada.is_answered("new")
                await old.logs(ENDED, times=2)
                await asyncio.sleep(LOAD_SECONDS)
                await ada.hush()
                assert not old.has("chat")
                assert not old.has("shop")
                assert new.has("chat")
                assert new.has("shop")
                new.signal(signal.SIGTERM)  # the old one stands by
                assert await new.wait() == 0
                await asyncio.gather(*(cluster.took(app, old) for app in ("chat", "shop")))
                await ada.is_answered("old again")
                await crowd.end()
                await check(url, all_ended=True)
                await crowd.buyer.ask_all_again()
            assert crowd.done > before > 0
            assert crowd.buyer.refusals <= AWAY
            stored = await ear.stored()
            assert {id: stored.get(id) for id in ada.said} == ada.said
            assert not {text for text in ada.failed if text.startswith("away")} & {*stored.values()}
            assert ada.codes <= AWAY
            await ear.knows(stored)
            assert ear.ids == sorted(set(ear.ids))
            assert await ear.count() == 2
            for person in (ada, ear):
                assert not person.client.closed
                await person.client.close()
