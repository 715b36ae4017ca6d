"""The login server of the examples refuses what it should."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from docs.examples.login_server import Accounts, LoginServer

PROVIDER = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = LoginServer(Accounts(PROVIDER.public_key(), "my-game"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def post(port: int, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def token(key: ec.EllipticCurvePrivateKey = PROVIDER, audience: str = "my-game", seconds: float = 3600) -> str:
    # Tokens are made when the tests are collected, which may be long before they run.
    return jwt.encode({"sub": "ada", "aud": audience, "exp": time.time() + seconds}, key, "ES256")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/device", {"device": "d" * 32}, 200),
        ("/device", {"device": "d" * 31}, 401),
        ("/device", {"device": 7}, 401),
        ("/device", {}, 401),
        ("/device", [], 401),
        ("/exchange", {"id_token": token()}, 200),
        ("/exchange", {"id_token": token(STRANGER)}, 401),
        ("/exchange", {"id_token": token(audience="other")}, 401),
        ("/exchange", {"id_token": token(seconds=-60)}, 401),
        ("/exchange", {"id_token": 7}, 401),
        ("/exchange", {}, 401),
        ("/other", {}, 404),
        ("/device", {"device": "d" * 20_000}, 400),
    ],
)
def test_who_gets_a_ticket(port: int, path: str, body: object, status: int) -> None:
    assert post(port, path, json.dumps(body).encode()) == status


def test_a_body_that_is_no_json(port: int) -> None:
    assert post(port, "/device", b"{") == 401
