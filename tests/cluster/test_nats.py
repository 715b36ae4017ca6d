"""What the network does to nodes that NATS joins: restarts, silence, floods, and names that are taken."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from skyloom import Address, CallError, Node, NotExecuted, Service, Unknown, rpc
from skyloom.cluster.members import SILENT_TICKS_MAX
from skyloom.cluster.nats import ClusterError, NatsTransport
from skyloom.cluster.nats_life import ASKS, STALLED_SECONDS, TICK_SECONDS, Life
from skyloom.cluster.transport import LEASE_SECONDS, MESSAGE_BYTES_MAX, NotConnected
from skyloom.node.node import QUERY_SECONDS
from tests.nats import NatsServer, running_nats
from tests.quiet_loop import QuietLoop

pytestmark = pytest.mark.quiet_time


class Ear(Service):
    name = "EAR"

    def __init__(self) -> None:
        self.heard: list[object] = []

    @rpc
    async def hear(self, word: object) -> int:
        self.heard.append(word)
        return len(self.heard)

    @rpc
    async def never(self) -> None:
        await self.sleep(3600)


class Watcher(Service):
    def __init__(self) -> None:
        self.down: list[Address] = []

    async def on_down(self, address: Address, reason: str) -> None:
        self.down.append(address)


class Pair:
    """Two nodes; EAR is on `there`."""

    def __init__(self, url: str, cluster: str) -> None:
        self.transports = [NatsTransport(url, cluster=cluster) for _ in range(2)]
        there, here = self.transports
        self.there = Node("there", watch_loop=False, transport=there)
        self.here = Node("here", watch_loop=False, transport=here)

    async def together(self) -> None:
        """Wait until a call goes through again."""
        while True:
            with suppress(CallError):
                await self.here.call("EAR", "lua", "hear", "again")
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def pair_on(server: NatsServer, cluster: str) -> AsyncIterator[Pair]:
    pair = Pair(server.url, cluster)
    async with pair.there, pair.here:
        await pair.there.spawn(Ear)
        yield pair


@pytest.fixture
async def pair(nats: NatsServer, cluster: str) -> AsyncIterator[Pair]:
    async with pair_on(nats, cluster) as made:
        yield made


def ear(pair: Pair) -> Ear:
    address = pair.there.names.find("EAR")
    assert address is not None
    service = pair.there.cells[address].service
    assert isinstance(service, Ear)
    return service


async def restart(server: NatsServer) -> None:
    server.kill()
    server.start()


async def freeze(server: NatsServer) -> None:
    server.freeze()
    await asyncio.sleep(60)
    server.thaw()


@pytest.mark.parametrize("trouble", [restart, pytest.param(freeze, marks=pytest.mark.ci)])
async def test_a_server_that_goes_away_fails_what_is_under_way_and_then_all_go_on(
    cluster: str, trouble: Callable[[NatsServer], object]
) -> None:
    with running_nats() as server:
        async with pair_on(server, cluster) as pair:
            address = await pair.here.query("EAR")
            watcher = await pair.here.spawn(Watcher)
            service = pair.here.cells[watcher].service
            assert isinstance(service, Watcher)
            service.monitor(address)
            calling = asyncio.create_task(pair.here.call(address, "lua", "never", timeout=1000))
            await asyncio.sleep(1)
            await trouble(server)  # type: ignore[misc]  # both are coroutines
            with pytest.raises(Unknown, match="'there' was lost"):
                await calling
            await pair.together()
            assert service.down == [address]
            assert ear(pair).heard == ["again"]


@pytest.mark.ci
async def test_while_there_is_no_server_calls_fail_at_once_and_are_not_made_later(cluster: str) -> None:
    with running_nats() as server:
        async with pair_on(server, cluster) as pair:
            address = await pair.here.query("EAR")
            server.kill()
            await asyncio.sleep(1)
            for _ in range(3):
                began = pair.here.now()
                with pytest.raises(NotExecuted):
                    await pair.here.call(address, "lua", "hear", "lost")
                assert pair.here.now() == began
            pair.here.send(address, "lua", "hear", "lost too")
            server.start()
            await pair.together()
            assert ear(pair).heard == ["again"]


async def test_a_node_that_stood_still_joins_anew(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, QuietLoop)
    life = pair.transports[1]._life
    assert life is not None
    calling = asyncio.create_task(pair.here.call("EAR", "lua", "never", timeout=1000))
    await asyncio.sleep(1)
    loop.stand_still(STALLED_SECONDS + 1)
    with pytest.raises(Unknown):
        await calling
    await pair.together()
    assert pair.transports[1]._life is not life


async def test_a_node_that_was_lost_and_does_not_know_is_told(pair: Pair) -> None:
    one, other = pair.transports
    assert one._life is not None
    before = one._life.members.incarnation("here")
    one._life.members.lose("here")
    with pytest.raises(CallError):  # it is not heard any more
        await pair.here.call("EAR", "lua", "hear", "lost", timeout=10)
    await pair.together()
    assert one._life.members.incarnation("here") > before
    assert ear(pair).heard == ["again"]


async def test_messages_arrive_in_order_and_once(pair: Pair) -> None:
    address = await pair.here.query("EAR")
    for number in range(900):
        pair.here.send(address, "lua", "hear", number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert await pair.here.call(address, "lua", "hear", "end") == 901
    assert ear(pair).heard == [*range(900), "end"]


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX - 1024, MESSAGE_BYTES_MAX - 100, 2 * MESSAGE_BYTES_MAX])
async def test_a_message_that_is_too_long_harms_nobody(pair: Pair, size: int) -> None:
    address = await pair.here.query("EAR")
    life = pair.transports[1]._life
    if size < MESSAGE_BYTES_MAX - 1000:
        assert await pair.here.call(address, "lua", "hear", b"x" * size) == 1
    else:
        with pytest.raises(NotExecuted, match="bytes"):
            await pair.here.call(address, "lua", "hear", b"x" * size)
    assert await pair.here.call(address, "lua", "hear", "short") >= 1
    assert pair.transports[1]._life is life


async def test_clusters_of_other_names_do_not_meet(nats: NatsServer, pair: Pair) -> None:
    async with Node("other", watch_loop=False, transport=NatsTransport(nats.url, cluster="elsewhere")) as node:
        with pytest.raises(CallError):
            await node.query("EAR")
        with pytest.raises(NotExecuted):
            await node.call(Address("there", 2), "lua", "hear", 1)


async def test_the_name_of_a_node_that_lives_is_refused_soon(nats: NatsServer, cluster: str, pair: Pair) -> None:
    began = asyncio.get_running_loop().time()
    twin = Node("there", watch_loop=False, transport=NatsTransport(nats.url, cluster=cluster))
    with pytest.raises(ClusterError, match="has a node 'there' already"):
        await twin.start()
    assert asyncio.get_running_loop().time() - began <= 3 * TICK_SECONDS
    await pair.together()


@pytest.mark.ci
async def test_the_name_of_a_node_that_died_is_free_in_time(nats: NatsServer, cluster: str) -> None:
    holder = NatsTransport(nats.url, cluster=cluster)
    await holder.start("there", print, print)
    assert holder._task is not None
    holder._task.cancel()  # as if killed: it says nothing any more, and keeps its lease
    next_one = NatsTransport(nats.url, cluster=cluster)
    with pytest.raises(ClusterError, match="already"):
        await next_one.start("there", print, print)
    await real_seconds(LEASE_SECONDS + 1)
    await next_one.start("there", print, print)
    await next_one.stop()
    assert holder._life is not None
    await holder._life.close()


async def test_who_looks_for_a_name_is_not_left_when_the_node_stops(pair: Pair) -> None:
    transport = pair.transports[1]
    looking = []
    for _ in range(2):  # the second waits until the first has its answer
        looking.append(asyncio.create_task(transport.resolve("NOBODY")))
        for _ in range(5):
            await asyncio.sleep(0)
    await transport.stop()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*looking) == [None, None]


async def test_many_who_wait_for_a_name_are_one_question(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    say = Life._say

    async def counted(self: Life, word: int, question: str = "") -> None:
        nonlocal asked
        asked += word == ASKS
        await say(self, word, question)

    monkeypatch.setattr(Life, "_say", counted)
    waiting = [asyncio.create_task(pair.here.query("LATE", wait=10)) for _ in range(100)]
    await asyncio.sleep(2)
    assert asked <= 2 / QUERY_SECONDS + 2
    pair.there.register("LATE", await pair.there.query("EAR"))
    assert len(set(await asyncio.gather(*waiting))) == 1


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:4222", "http://sesame:sesame@h", "nats://", "nats://a:4222,b", "nats://a:port", "tls://a:99999"],
)
def test_a_url_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ClusterError, match="nats://HOST:4222") as refused:
        NatsTransport(url)
    assert "sesame" not in str(refused.value)


async def test_without_a_server_or_without_jetstream_it_says_so(cluster: str) -> None:
    with pytest.raises(ClusterError, match=r"nats://127.0.0.1:1 does not let this node join: .*nats-server") as refused:
        await NatsTransport("nats://sesame@127.0.0.1:1", cluster=cluster).start("n", print, print)
    assert "sesame" not in str(refused.value)
    with running_nats(jetstream=False) as server, pytest.raises(ClusterError, match="-js"):
        await NatsTransport(server.url, cluster=cluster).start("n", print, print)


async def test_a_password_that_is_for_tls_is_not_told_without(cluster: str) -> None:
    told: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576,"auth_required":true}\r\n')
        told.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"//skyloom:sesame@127.0.0.1:{port}"
        for scheme in ("tls", "nats"):
            with pytest.raises(ClusterError) as refused:
                await NatsTransport(f"{scheme}:{url}", cluster=cluster).start("n", print, print)
            assert "sesame" not in str(refused.value)
            assert ("does not demand TLS" in str(refused.value)) == (scheme == "tls")
            assert any(b"sesame" in each for each in told) == (scheme == "nats")


async def test_a_lease_is_one_holders_at_a_time(pair: Pair, cluster: str) -> None:
    one, other = pair.transports
    first = await one.hold("shop")
    assert first > 0
    assert await other.hold("shop") == 0
    for _ in range(5):
        await asyncio.sleep(3)
        assert await one.hold("shop") == first  # renewed
    assert await other.hold("shop") == 0
    await one.release("shop")
    second = await other.hold("shop")
    assert second > first
    assert await one.hold("shop") == 0
    await one.release("shop")  # not its own any more
    assert await other.hold("shop") == second


async def test_of_two_who_ask_at_once_one_is_granted_it(pair: Pair) -> None:
    last = 0
    for _ in range(30):
        tokens = await asyncio.gather(*(transport.hold("shop") for transport in pair.transports))
        assert min(tokens) == 0
        assert max(tokens) > last
        last = max(tokens)
        await pair.transports[tokens.index(last)].release("shop")


@pytest.mark.ci
async def test_a_node_alone_notices_a_server_that_hangs(cluster: str) -> None:
    with running_nats() as server:
        transport = NatsTransport(server.url, cluster=cluster)
        async with Node("alone", watch_loop=False, transport=transport):
            server.freeze()
            await asyncio.sleep(SILENT_TICKS_MAX + 3)
            assert transport._life is None
            server.thaw()
            await asyncio.sleep(10)
            assert transport._life is not None


@pytest.mark.ci
async def test_when_the_server_loses_its_data_nodes_join_again_and_tokens_go_on_growing(cluster: str) -> None:
    with running_nats() as server:
        async with pair_on(server, cluster) as pair:
            one, other = pair.transports
            assert one._life is not None
            assert other._life is not None
            for _ in range(20):
                first = await one.hold("shop")
            await other._life.jetstream.delete_stream(f"KV_skyloom-{cluster}")
            await real_seconds(1.1)  # the server's clock counts them
            other._life.break_off("the test wants it")
            await pair.together()
            second = 0
            for _ in range(30):
                second = second or await other.hold("shop")
                await asyncio.sleep(1)
            assert second > first
            assert await one.hold("shop") == 0


async def real_seconds(seconds: float) -> None:
    """On a loop of virtual time."""
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)


@pytest.mark.ci
async def test_without_a_server_a_lease_is_not_known(cluster: str) -> None:
    with running_nats() as server:
        async with pair_on(server, cluster) as pair:
            first = await pair.here.harbor._transport.hold("shop")  # type: ignore[union-attr]  # it has one
            server.kill()
            await asyncio.sleep(1)
            with pytest.raises(NotConnected):
                await pair.transports[1].hold("shop")
            server.start()
            await pair.together()
            assert await pair.transports[1].hold("shop") == first
