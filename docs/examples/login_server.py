"""A login server beside the gateway: it finds out who somebody is, and gives out tickets.

POST /device    {"device": SECRET}      -> {"ticket": ...}    a player without an account, known by its device
POST /exchange  {"id_token": TOKEN}     -> {"ticket": ...}    somebody who has logged in at an identity provider
"""

import asyncio
import hashlib
import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from docs.examples.hello import app
from skyloom_gateway import Server, Settings
from skyloom_gateway.auth import TicketAuthenticator, TicketKey, issue_ticket
from skyloom_gateway.client import HelloRefused, connect
from skyloom_gateway.settings import GatewaySettings

KEY = TicketKey("2026-11", b"of 32 bytes or more, from a file that only you can read")
TICKET_SECONDS = 60
BODY_BYTES_MAX = 16 * 1024
DEVICE_CHARS_MIN = 32


class Accounts:
    """Who is who. A real one keeps this in a database."""

    def __init__(self, provider_key: Any, client_id: str) -> None:
        self._provider_key, self._client_id = provider_key, client_id
        self._by_device: dict[str, str] = {}

    def by_device(self, body: dict[str, Any]) -> str | None:
        """The account of a device, made when it is seen for the first time."""
        secret = body.get("device")
        if not isinstance(secret, str) or len(secret) < DEVICE_CHARS_MIN:
            return None
        # Whoever steals this table can log in as nobody: it holds no secret, but what one can be checked against.
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return self._by_device.setdefault(digest, f"player-{len(self._by_device) + 1}")

    def by_id_token(self, body: dict[str, Any]) -> str | None:
        """The account of an identity provider's user, as its token says."""
        token = body.get("id_token", "")
        try:
            claims = jwt.decode(token, self._provider_key, algorithms=["ES256"], audience=self._client_id)
        except jwt.PyJWTError:
            return None
        return str(claims["sub"])


class LoginServer(ThreadingHTTPServer):
    """Serves on a free port of this machine; put it behind the HTTPS of your web server."""

    daemon_threads = True

    def __init__(self, accounts: Accounts) -> None:
        super().__init__(("127.0.0.1", 0), Login)
        self.ways = {"/device": accounts.by_device, "/exchange": accounts.by_id_token}


class Login(BaseHTTPRequestHandler):
    server: LoginServer
    timeout = 5

    def do_POST(self) -> None:
        way = self.server.ways.get(self.path)
        length = self.headers.get("Content-Length", "")
        if way is None or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.answer(404 if way is None else 400, {})
            return
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError:
            body = None
        user = way(body) if isinstance(body, dict) else None
        if user is None:
            self.answer(401, {})
            return
        expires_at = time.time() + TICKET_SECONDS
        self.answer(200, {"ticket": issue_ticket(KEY, user, audience="skyloom", expires_at=expires_at)})

    def answer(self, status: int, body: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: what people log in with is not for a log."""


def log_in(port: int, path: str, body: dict[str, str]) -> str:
    """What a game client does before it connects."""
    url = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5) as response:
        ticket: str = json.load(response)["ticket"]
        return ticket


async def main() -> None:
    provider = ec.generate_private_key(ec.SECP256R1())  # stands in for the identity provider's
    login = LoginServer(Accounts(provider.public_key(), "my-game"))
    threading.Thread(target=login.serve_forever, args=(0.01,), daemon=True).start()
    settings = Settings(gateway=GatewaySettings(port=0, tcp_port=None))
    tickets = TicketAuthenticator([KEY], "skyloom", time.time)
    async with Server([app], settings, [tickets]) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        id_token = jwt.encode({"sub": "ada", "aud": "my-game", "exp": time.time() + 60}, provider, "ES256")
        for path, body in (("/device", {"device": "d" * 43}), ("/exchange", {"id_token": id_token})):
            ticket = log_in(login.server_port, path, body)
            async with connect(url, auth={"scheme": "ticket", "ticket": ticket}) as client:
                print(path, await client.request("hello.greet", {"name": "bob"}))
            try:
                await connect(url, auth={"scheme": "ticket", "ticket": ticket})
            except HelloRefused as refused:
                print(path, refused)
    login.shutdown()
    login.server_close()


if __name__ == "__main__":
    asyncio.run(main())
