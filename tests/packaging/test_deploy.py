"""The command that tells a container engine whether the gateway is well."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from skyloom_gateway.cli import main

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALIVE, DEAD = 200, 503


def docker_check() -> list[str]:
    found = re.search(r"HEALTHCHECK[^\n]*\\\n\s+CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text())
    assert found
    return [str(part) for part in json.loads(found[1])]


def compose_check() -> list[str]:
    kind, *command = compose_gateway()["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(part) for part in command]


def compose_gateway() -> dict[str, Any]:
    service: dict[str, Any] = YAML(typ="safe", pure=True).load(DEPLOY / "compose.yaml")["services"]["gateway"]
    return service


@contextmanager
def server(status: int) -> Iterator[int]:
    """Serve /healthz with this status, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield http.server_port
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def run(check: list[str], port: int) -> int:
    assert check[:2] == ["python", "-c"]
    assert ", 8000," in check[2]
    return subprocess.run(
        [sys.executable, "-c", check[2].replace(", 8000,", f", {port},")], capture_output=True, check=False
    ).returncode


def test_compose_checks_as_the_image_does() -> None:
    assert compose_check() == docker_check()


@pytest.mark.parametrize(("status", "healthy"), [(ALIVE, True), (DEAD, False)])
def test_the_check_passes_for_a_gateway_that_is_well_and_no_other(status: int, healthy: bool) -> None:
    with server(status) as port:
        assert (run(docker_check(), port) == 0) == healthy


def test_the_check_fails_where_nothing_listens() -> None:
    with server(ALIVE) as port:
        pass
    assert run(docker_check(), port) != 0


def image_command() -> list[str]:
    found = re.search(r"^CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return [str(part) for part in json.loads(found[1])]


def test_the_image_alone_lets_no_strangers_in() -> None:
    done = CliRunner().invoke(main, ["check", *image_command()], env={})
    assert done.exit_code == 2
    assert "guest: lets anybody in" in done.stderr


def test_compose_lets_guests_in_from_its_own_machine_alone() -> None:
    service = compose_gateway()
    done = check_with(service)
    assert done.exit_code == 0, done.stderr
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_has_the_console_inside_the_container_alone() -> None:
    service = compose_gateway()
    port = service["environment"]["SKYLOOM_GATEWAY__ADMIN_PORT"]
    assert re.search(rf"^gateway.admin_port +{port} ", check_with(service).stdout, re.MULTILINE)
    assert not any(port in published for published in service["ports"])


def check_with(service: dict[str, Any]) -> Result:
    return CliRunner().invoke(main, ["check", *image_command()], env=service["environment"])
