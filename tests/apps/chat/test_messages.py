"""What the chat's bodies accept, and what they refuse before an agent is troubled."""

import pytest
from pydantic import BaseModel, ValidationError

from skyloom_chat.messages import CreateRoom, HistoryQuery, Join, Leave, Say, Typing


@pytest.mark.parametrize("room", ["a", "A-b_9", "x" * 64, "-", "_"])
@pytest.mark.parametrize("body", [CreateRoom, Join, Leave, Typing])
def test_room_names_that_are_allowed(body: type[BaseModel], room: str) -> None:
    assert body.model_validate({"room": room}).model_dump() == {"room": room}


@pytest.mark.parametrize(
    "room", ["", "x" * 65, "a b", "a\n", "\na", "a\nb", "é", "٣", "а", "a\0", "../x", "<b>", 5, None, ["a"]]
)
@pytest.mark.parametrize("body", [CreateRoom, Join, Leave, Typing, HistoryQuery])
def test_room_names_that_are_not(body: type[BaseModel], room: object) -> None:
    with pytest.raises(ValidationError):
        body.model_validate({"room": room})


@pytest.mark.parametrize("text", [" ", "x" * 2000, "🎲" * 2000, "line\nline", "<script>alert(1)</script>"])
def test_texts_that_are_allowed(text: str) -> None:
    assert Say(room="lobby", text=text).text == text


@pytest.mark.parametrize("text", ["", "x" * 2001, "a\0b", "\ud800", 5, None])
def test_texts_that_are_not(text: object) -> None:
    with pytest.raises(ValidationError):
        Say.model_validate({"room": "lobby", "text": text})


def test_history_has_a_page_size_with_bounds() -> None:
    assert HistoryQuery(room="lobby").limit == 50
    assert HistoryQuery.model_validate({"room": "lobby", "before": None, "limit": 1000}).before is None
    for wrong in ({"limit": 0}, {"limit": 1001}, {"before": 0}, {"before": 2**63}, {"before": "x"}):
        with pytest.raises(ValidationError):
            HistoryQuery.model_validate({"room": "lobby"} | wrong)


def test_fields_of_newer_clients_are_ignored() -> None:
    assert Say.model_validate({"room": "lobby", "text": "hi", "mood": "good"}) == Say(room="lobby", text="hi")
