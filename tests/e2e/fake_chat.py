"""The chat, as the browser sees it, without a server."""

from collections.abc import Callable
from typing import Any

from tests.e2e.fake_gateway import FakeGateway, Session

HISTORY_PAGE = 50


class FakeChat(FakeGateway):
    """The chat's rooms in memory."""

    path = "/chat/"

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        super().__init__()
        self.now = now
        self.ids = 0
        self.rooms: dict[str, list[dict[str, Any]]] = {}
        self.members: dict[str, dict[str, Session | None]] = {}
        # What happens between a join and its answer: its pushes come first.
        self.overtaking: Callable[[], object] | None = None
        self.unlisted = 0

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

    def requested(self, session: Session, frame: dict[str, Any]) -> None:
        if frame["route"] == "chat.join" and self.overtaking is not None:
            answer = self.answer(session, "chat.join", frame["body"])
            self.overtaking()
            session.respond(frame["id"], answer)
        else:
            super().requested(session, frame)

    def notified(self, session: Session, route: str, body: dict[str, Any]) -> None:
        if route == "chat.typing":
            self.tell(body["room"], route, {"room": body["room"], "user": session.user}, session)

    def drop(self, session: Session) -> None:
        if session in self.sessions:
            super().drop(session)
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
