"""The chat, as the browser sees it, without a server: pages from the files, the gateway's answers from
memory.

Several pages of one browser share a `FakeChat`; each has a WebSocket that speaks protocol version 1 in
json.
"""

import json
import mimetypes
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Playwright, Route, WebSocketRoute

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "gateway/skyloom_gateway/static"
CHAT_PAGE = ROOT / "apps/chat/skyloom_chat/page"
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
HISTORY_PAGE = 50


async def launch(playwright: Playwright) -> Browser:
    """The system's Chromium."""
    return await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)


class Session:
    """One page's connection to the fake gateway."""

    def __init__(self, chat: "FakeChat", socket: WebSocketRoute) -> None:
        self.chat = chat
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
        self.chat.drop(self)
        await self.socket.close(code=code, reason=reason)

    def _closed(self, code: int | None, reason: str | None) -> None:
        self.chat.drop(self)

    def _message(self, data: str | bytes) -> None:
        frame: dict[str, Any] = json.loads(data)
        self.received.append(frame)
        kind = frame["type"]
        if kind == "hello":
            self.chat.greet(self, frame)
        elif kind == "ping":
            self.send({"type": "pong"})
        elif kind == "notify" and frame["route"] == "chat.typing":
            self.chat.tell(
                frame["body"]["room"], "chat.typing", {"room": frame["body"]["room"], "user": self.user}, self
            )
        elif kind == "request" and frame["route"] not in self.chat.unanswered:
            answer = self.chat.answer(self, frame["route"], frame["body"])
            if frame["route"] == "chat.join" and self.chat.overtaking is not None:
                self.chat.overtaking()
            if isinstance(answer, str):
                error = {
                    "code": answer,
                    "kind": "not_found",
                    "message": f"refused: {answer}",
                    "retryable": False,
                }
                self.send({"type": "error", "id": frame["id"], "error": error})
            else:
                self.send({"type": "response", "id": frame["id"], "body": answer})


class FakeChat:
    """The chat's rooms in memory, and the sessions of the pages that are open."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now
        self.ids = 0
        self.rooms: dict[str, list[dict[str, Any]]] = {}
        self.members: dict[str, dict[str, Session | None]] = {}
        self.sessions: list[Session] = []
        self.accepted = 0
        self.unanswered: set[str] = set()
        self.hello_error: tuple[str, str, int] | None = None
        self.down = False
        # What happens between a join and its answer: its pushes come first.
        self.overtaking: Callable[[], object] | None = None
        self.unlisted = 0
        self.closings: list[Coroutine[Any, Any, None]] = []
        self.troubles: list[str] = []

    def add_room(self, room: str, *people: str) -> None:
        self.rooms[room] = []
        self.members[room] = dict.fromkeys(people)

    def post(self, room: str, user: str, text: str, time: float | None = None) -> dict[str, Any]:
        """Somebody says something; everybody else in the room hears it."""
        self.ids += 1
        message = {"id": self.ids, "room": room, "user": user, "text": text, "time": time or self.now}
        self.rooms[room].append(message)
        self.tell(room, "chat.message", message, self.members[room].get(user))
        return message

    def tell(self, room: str, route: str, body: dict[str, Any], but: Session | None = None) -> None:
        for session in self.members[room].values():
            if session is not None and session is not but:
                session.push(route, body)

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
            "heartbeat": 20,
        }
        session.send({"type": "welcome", **welcome, "limits": {"frame_bytes": 65536, "messages_per_second": 50}})

    def drop(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            for room, people in self.members.items():
                if people.get(session.user) is session:
                    del people[session.user]
                    self.tell(room, "chat.left", {"room": room, "user": session.user, "time": self.now})

    def answer(self, session: Session, route: str, body: dict[str, Any]) -> dict[str, Any] | str:
        handlers: dict[str, Callable[[Session, str, dict[str, Any]], dict[str, Any] | str]] = {
            "chat.create_room": self._create,
            "chat.join": self._join,
            "chat.leave": self._leave,
            "chat.say": self._say,
            "chat.history": self._history,
        }
        if route == "chat.rooms":
            return {"rooms": [{"room": room, "members": len(people)} for room, people in self.members.items()]}
        if route != "chat.create_room" and body["room"] not in self.rooms:
            return "chat.room_not_found"
        return handlers[route](session, body["room"], body)

    def _create(self, session: Session, room: str, body: dict[str, Any]) -> dict[str, Any] | str:
        if room in self.rooms:
            return "chat.room_exists"
        self.add_room(room)
        return {"room": room}

    def _join(self, session: Session, room: str, body: dict[str, Any]) -> dict[str, Any] | str:
        if self.members[room].get(session.user) is not session:
            self.tell(room, "chat.joined", {"room": room, "user": session.user, "time": self.now})
        self.members[room][session.user] = session
        return {
            "room": room,
            "members": list(self.members[room]),
            "history": self.rooms[room][-HISTORY_PAGE:],
            "member_count": len(self.members[room]) + self.unlisted,
            "more": len(self.rooms[room]) > HISTORY_PAGE,
        }

    def _leave(self, session: Session, room: str, body: dict[str, Any]) -> dict[str, Any] | str:
        self.members[room].pop(session.user, None)
        self.tell(room, "chat.left", {"room": room, "user": session.user, "time": self.now})
        return {}

    def _say(self, session: Session, room: str, body: dict[str, Any]) -> dict[str, Any] | str:
        if session.user not in self.members[room]:
            return "chat.not_a_member"
        message = self.post(room, session.user, body["text"])
        return {"id": message["id"], "time": message["time"]}

    def _history(self, session: Session, room: str, body: dict[str, Any]) -> dict[str, Any] | str:
        before = body.get("before", self.ids + 1)
        older = [message for message in self.rooms[room] if message["id"] < before]
        limit = body.get("limit", HISTORY_PAGE)
        return {"messages": older[-limit:], "more": len(older) > limit}

    async def connect(self, socket: WebSocketRoute) -> None:
        if self.down:
            await socket.close(code=1013, reason="server full")
            return
        self.sessions.append(Session(self, socket))

    async def open(self, context: BrowserContext, path: str = "/chat/") -> Page:
        """A page of the app, whose troubles (script errors, refusals by the CSP) collect in `troubles`."""
        await context.route(f"{ORIGIN}/**", serve)
        await context.route_web_socket("**/ws", self.connect)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        await page.goto(ORIGIN + path)
        return page


async def serve(route: Route) -> None:
    """The files as the gateway serves them, with its Content-Security-Policy."""
    path = route.request.url.removeprefix(ORIGIN).split("?")[0].split("#")[0]
    if path.startswith("/chat/"):
        file = CHAT_PAGE / (path.removeprefix("/chat/") or "index.html")
    else:
        file = STATIC / (path.removeprefix("/") or "index.html")
    if not file.is_file():
        await route.fulfill(status=404, body="not found")
        return
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    await route.fulfill(body=file.read_bytes(), content_type=kind, headers={"Content-Security-Policy": CSP})
