"""The life of one client's session, free of I/O and of clocks: bytes and time in, events and bytes out."""

from skyloom_gateway.session.bucket import Bucket
from skyloom_gateway.session.error import NotInFlight, WrongState
from skyloom_gateway.session.event import (
    AckEvent,
    Close,
    Event,
    HelloEvent,
    Nothing,
    NotifyEvent,
    Reply,
    RequestEvent,
)
from skyloom_gateway.session.greeting import Greeting, Phase
from skyloom_gateway.session.limits import SessionLimits
from skyloom_gateway.session.session import Admission, Session, State

__all__ = [
    "AckEvent",
    "Admission",
    "Bucket",
    "Close",
    "Event",
    "Greeting",
    "HelloEvent",
    "Nothing",
    "NotInFlight",
    "NotifyEvent",
    "Phase",
    "Reply",
    "RequestEvent",
    "Session",
    "SessionLimits",
    "State",
    "WrongState",
]
