"""What is deployed for several processes: the NATS server's configuration, and the compose file beside it."""

import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from skyloom import Node
from skyloom.cluster.nats import ClusterError, NatsTransport
from skyloom.cluster.transport import MESSAGE_BYTES_MAX
from skyloom_gateway.cli import main
from tests.nats import binary

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONF = DEPLOY / "nats" / "nats.conf"
PASSWORD = "p1x7"
START_TIMEOUT_SECONDS = 20


def services() -> dict[str, dict[str, Any]]:
    text = (DEPLOY / "compose.cluster.yaml").read_text()
    found: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(
        re.sub(r"\$\{\w+_PASSWORD:\?[^}]*\}", PASSWORD, text)
    )["services"]
    return found


def program() -> str:
    found = binary()
    assert found is not None, "the dev extra installs nats-server"
    return found


def environment(store: Path) -> dict[str, str]:
    return {**os.environ, **services()["nats"]["environment"], "NATS_STORE": str(store)}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with the configuration, on other ports; yields that for nodes."""
    store = tmp_path_factory.mktemp("nats")
    with free_port() as port, free_port() as health:
        pass
    command = [program(), "-c", str(CONF), "-a", "127.0.0.1", "-p", str(port), "-m", str(health)]
    with (store / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(store), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not answers(health):
            assert process.poll() is None, (store / "log").read_text()
            assert time.monotonic() < deadline, (store / "log").read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        yield free.getsockname()[1]


def answers(port: int) -> bool:
    """Whether the server is well, by what compose asks it."""
    (url,) = (word for word in services()["nats"]["healthcheck"]["test"] if word.startswith("http"))
    assert ":8222/" in url
    try:
        with urllib.request.urlopen(url.replace(":8222/", f":{port}/"), timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def test_the_configuration_is_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [program(), "-t", "-c", str(CONF)], env=environment(tmp_path), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["NATS_USER", "NATS_PASSWORD", "NATS_STORE"])
def test_it_does_not_start_without(name: str, tmp_path: Path) -> None:
    without = {key: value for key, value in environment(tmp_path).items() if key != name}
    done = subprocess.run([program(), "-t", "-c", str(CONF)], env=without, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert name in done.stderr


async def test_nodes_join_with_the_password_and_no_others(deployed: int) -> None:
    for name in ("gateway-1", "gateway-2", "node"):
        url = services()[name]["environment"]["SKYLOOM_CLUSTER__NATS"].replace("@nats:4222", f"@127.0.0.1:{deployed}")
        async with Node(name, watch_loop=False, transport=NatsTransport(url)) as node:
            assert await node.harbor.hold("app.chat") > 0
    for wrong in (f"nats://127.0.0.1:{deployed}", f"nats://skyloom:wrong@127.0.0.1:{deployed}"):
        with pytest.raises(ClusterError, match="Authorization"):
            await Node("x", watch_loop=False, transport=NatsTransport(wrong)).start()


def test_messages_may_be_as_long_as_the_runtime_lets_them() -> None:
    found = re.search(r"^max_payload: (\d+)MiB$", CONF.read_text(), re.MULTILINE)
    assert found
    assert int(found[1]) * 1024 * 1024 == MESSAGE_BYTES_MAX


@pytest.mark.parametrize("name", ["gateway-1", "gateway-2"])
def test_the_gateways_settings_are_ones(name: str) -> None:
    service = services()[name]
    done = CliRunner().invoke(main, ["check", *service["command"]], env=service["environment"])
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^cluster.nats +nats://skyloom:\*+@nats:4222 ", done.stdout, re.MULTILINE)
    assert re.search(r"^database +postgresql://", done.stdout, re.MULTILINE)


def test_only_the_gateways_are_reached_from_outside() -> None:
    for name, service in services().items():
        if name.startswith("gateway"):
            assert all(port.startswith("127.0.0.1:") for port in service["ports"])
            assert service["networks"] == ["outside", "inside"]
        else:
            assert "ports" not in service
            assert service["networks"] == ["inside"]


def test_each_gateway_lets_in_pages_of_its_own_port() -> None:
    for name in ("gateway-1", "gateway-2"):
        service = services()[name]
        port = service["ports"][0].split(":")[1]
        assert all(
            origin.endswith(f":{port}") for origin in service["environment"]["SKYLOOM_GATEWAY__ORIGINS"].split(",")
        )
