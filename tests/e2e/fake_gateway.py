"""A gateway as the browser sees it, without a server: pages from the files, answers from memory.

Several pages of one browser share a `FakeGateway`; each has a WebSocket that speaks protocol version 1 in
json.
"""

import json
import mimetypes
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Playwright, Route, WebSocketRoute

from tests.required import required

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "gateway/skyloom_gateway/static"
APPS = ("chat", "shop")
ORIGIN = "http://skyloom.test"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


async def launch(playwright: Playwright) -> Browser:
    """The system's Chromium; without it the test is skipped."""
    return await playwright.chromium.launch(executable_path=required("chromium"), args=CHROMIUM_FLAGS)


class Session:
    """One page's connection to the fake gateway."""

    def __init__(self, gateway: "FakeGateway", socket: WebSocketRoute) -> None:
        self.gateway = gateway
        self.socket = socket
        self.user = ""
        self.seq = 0
        self.received: list[dict[str, Any]] = []
        socket.on_message(self._message)
        socket.on_close(self._closed)

    def send(self, frame: dict[str, Any]) -> None:
        self.socket.send(json.dumps(frame))

    def push(self, route: str, body: dict[str, Any]) -> None:
        self.seq += 1
        self.send({"type": "push", "seq": self.seq, "route": route, "body": body})

    async def close(self, code: int, reason: str = "") -> None:
        """Close as the gateway would."""
        self.gateway.drop(self)
        await self.socket.close(code=code, reason=reason)

    def _closed(self, code: int | None, reason: str | None) -> None:
        self.gateway.drop(self)

    def _message(self, data: str | bytes) -> None:
        frame: dict[str, Any] = json.loads(data)
        self.received.append(frame)
        kind = frame["type"]
        if kind == "hello":
            self.gateway.greet(self, frame)
        elif kind == "ping":
            self.send({"type": "pong"})
        elif kind == "notify":
            self.gateway.notified(self, frame["route"], frame["body"])
        elif kind == "request":
            self.gateway.requested(self, frame)

    def respond(self, id: int, answer: dict[str, Any] | str) -> None:
        """Answer a request: with a body, or with an error of this code."""
        if isinstance(answer, str):
            error = {
                "code": answer,
                "kind": "not_found",
                "message": f"refused: {answer}",
                "retryable": False,
                "details": {},
            }
            self.send({"type": "error", "id": id, "error": error})
        else:
            self.send({"type": "response", "id": id, "body": answer})


class FakeGateway:
    """The sessions of the pages that are open; what they ask is for a subclass to `answer`."""

    path = "/"

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.accepted = 0
        self.unanswered: set[str] = set()
        self.refused: dict[str, str] = {}  # codes
        self.hello_error: tuple[str, str, int] | None = None
        self.down = False
        self.heartbeat_seconds = 20  # more, when a test's clock outruns the pongs
        self.closings: list[Coroutine[Any, Any, None]] = []
        self.troubles: list[str] = []

    def answer(self, session: Session, route: str, body: dict[str, Any]) -> dict[str, Any] | str:
        """What a request's answer is: a body, or an error's code."""
        raise NotImplementedError

    def requested(self, session: Session, frame: dict[str, Any]) -> None:
        if frame["route"] not in self.unanswered:
            answer = self.refused.get(frame["route"]) or self.answer(session, frame["route"], frame["body"])
            session.respond(frame["id"], answer)

    def notified(self, session: Session, route: str, body: dict[str, Any]) -> None:
        """A notify came."""

    def drop(self, session: Session) -> None:
        """The session's connection is gone."""
        if session in self.sessions:
            self.sessions.remove(session)

    def greet(self, session: Session, hello: dict[str, Any]) -> None:
        if self.hello_error:
            code, message, close_code = self.hello_error
            error = {
                "code": code,
                "kind": "unauthenticated",
                "message": message,
                "retryable": False,
                "details": {},
            }
            session.send({"type": "error", "id": 0, "error": error})
            self.closings.append(session.socket.close(code=close_code, reason=message))
            return
        self.accepted += 1
        session.user = hello["auth"]["name"]
        welcome = {
            "session": f"s{self.accepted}",
            "key": "k",
            "user": session.user,
            "recovered": False,
            "heartbeat": self.heartbeat_seconds,
        }
        session.send({"type": "welcome", **welcome, "limits": {"frame_bytes": 65536, "messages_per_second": 50}})

    async def connect(self, socket: WebSocketRoute) -> None:
        if self.down:
            await socket.close(code=1013, reason="server full")
            return
        self.sessions.append(Session(self, socket))

    async def open(self, context: BrowserContext, path: str | None = None) -> Page:
        """A page of the app, whose troubles (script errors, refusals by the CSP) collect in `troubles`."""
        await context.route(f"{ORIGIN}/**", serve)
        await context.route_web_socket("**/ws", self.connect)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        await page.goto(ORIGIN + (path or self.path))
        return page


async def serve(route: Route) -> None:
    """The files as the gateway serves them, with its Content-Security-Policy."""
    path = route.request.url.removeprefix(f"{ORIGIN}/").split("?")[0].split("#")[0]
    if not path or path.endswith("/"):
        path += "index.html"
    app, _, rest = path.partition("/")
    file = ROOT / f"apps/{app}/skyloom_{app}/page" / rest if app in APPS else STATIC / path
    if not file.is_file():
        await route.fulfill(status=404, body="not found")
        return
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    await route.fulfill(body=file.read_bytes(), content_type=kind, headers={"Content-Security-Policy": CSP})
