"""Certificates that are exchanged while the server serves, and TLS behind a proxy."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skyloom_gateway.listener import Link, ListenerSettings, Receiver, TcpListener
from tests.e2e.game import Game
from tests.gateway.listener.fakes import Recorder, tcp_frame

pytestmark = pytest.mark.real_time

LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
PATIENCE_SECONDS = 10.0


class Files:
    """A certificate and its key where a server reads them, and spare ones to put there."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self._spare = folder / "spare"
        for name in ("first", "second"):
            made = self._spare / name
            made.mkdir(parents=True)
            command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
            done = subprocess.run(
                [*command.split(), "-keyout", made / "key", "-out", made / "cert"], capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr
        self.put("first", "first")

    def put(self, cert: str, key: str) -> None:
        shutil.copy(self._spare / cert / "cert", self.cert)
        shutil.copy(self._spare / key / "key", self.key)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def files(made: Files) -> Files:
    made.put("first", "first")
    return made


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whose certificate it is, is what the tests look at
    return context


async def connect(port: int, name: str | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Connect, with or without server name indication; also says whose certificate was shown."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting(), server_hostname=name or "127.0.0.1"
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return reader, writer, next(name for name in ("first", "second") if name.encode() in shown)


async def shown(port: int, name: str | None = None) -> str:
    _, writer, who = await connect(port, name)
    writer.close()
    return who


class House:
    def __init__(self) -> None:
        self.recorders: list[Recorder] = []
        self.listener: TcpListener

    def accept(self, link: Link) -> Receiver:
        recorder = Recorder(link)
        recorder.on_message = link.send
        self.recorders.append(recorder)
        return recorder

    async def open(self, files: Files, **settings: object) -> int:
        given = ListenerSettings(port=0, certificate_file=files.cert, key_file=files.key, **settings)  # type: ignore[arg-type]  # as each test says
        self.listener = TcpListener(self.accept, given)
        return (await self.listener.start())[1]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.listener.close()


async def test_new_connections_get_the_new_certificate_and_old_ones_live_on(house: House, files: Files) -> None:
    port = await house.open(files)
    reader, writer, who = await connect(port)
    assert who == "first"
    files.put("second", "second")
    assert await shown(port) == "first"  # not before it is told
    house.listener.reload_certificate()
    assert [await shown(port), await shown(port, "game.example")] == ["second", "second"]
    writer.write(tcp_frame(b"hi"))
    assert await reader.readexactly(4) == tcp_frame(b"hi")
    writer.close()


@pytest.mark.parametrize("broken", ["mismatch", "noise", "gone"])
async def test_a_broken_certificate_leaves_the_old_one(house: House, files: Files, broken: str) -> None:
    port = await house.open(files)
    if broken == "mismatch":
        files.put("second", "first")
    elif broken == "noise":
        files.cert.write_text("noise")
    else:
        files.key.unlink()
    with pytest.raises(ValueError, match="cannot be read" if broken == "gone" else "are not a PEM certificate"):
        house.listener.reload_certificate()
    assert await shown(port) == "first"
    files.put("second", "second")
    house.listener.reload_certificate()
    assert await shown(port) == "second"


async def test_without_tls_there_is_nothing_to_reload(house: House) -> None:
    house.listener = TcpListener(house.accept, ListenerSettings(port=0))
    _, port = await house.listener.start()
    house.listener.reload_certificate()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def test_a_proxy_header_comes_before_tls(house: House, files: Files) -> None:
    port = await house.open(files, trusted_proxies=("127.0.0.1",), proxy_protocol=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(LINE)
    await writer.start_tls(trusting())
    writer.write(tcp_frame(b"hello"))
    assert await reader.readexactly(7) == tcp_frame(b"hello")
    assert house.recorders[0].link.peer == "203.0.113.7:56324"
    writer.close()


async def test_sighup_exchanges_the_certificate(files: Files, tmp_path: Path) -> None:
    settings = [f"gateway.tls_certificate={files.cert}", f"gateway.tls_key={files.key}"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    with Game(tmp_path / "log", *arguments) as game:
        assert [await shown(port) for port in game.ports] == ["first", "first"]
        files.put("second", "first")
        await hang_up(game, "the certificate was not exchanged")
        assert [await shown(port) for port in game.ports] == ["first", "first"]
        files.put("second", "second")
        await hang_up(game, "the certificate was read again")
        assert [await shown(port) for port in game.ports] == ["second", "second"]
        assert await asyncio.to_thread(game.stop) == 0


async def test_without_tls_sighup_ends_the_server(tmp_path: Path) -> None:
    with Game(tmp_path / "log") as game:
        assert await asyncio.to_thread(game.stop, signal.SIGHUP) == -signal.SIGHUP


async def hang_up(game: Game, said: str) -> None:
    game.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while said not in game.log:  # noqa: ASYNC110 - of another process there is only its log to watch
            await asyncio.sleep(0.02)
