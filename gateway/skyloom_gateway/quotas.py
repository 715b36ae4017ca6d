"""What the sessions of one user, and the clients of one address, may do together.

A user whom nobody has proven, such as a guest, is not counted: with a borrowed name one could use up another's share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyloom_gateway.listener.connections import network_of
from skyloom_gateway.logins import Logins
from skyloom_gateway.session.buckets import Buckets
from skyloom_gateway.wire import CloseCode, ErrorKind, WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_gateway.auth import Authenticator
    from skyloom_gateway.seat import Seat
    from skyloom_gateway.session.bucket import Bucket
    from skyloom_gateway.settings import GatewaySettings

USERS_MAX: Final = 10_000
"""Users, and addresses, whose rate of messages is remembered."""

TOO_MANY_SESSIONS: Final = WireError(
    "gateway.too_many_sessions",
    ErrorKind.RESOURCE_EXHAUSTED,
    "this user has as many sessions as it may: close one first",
    retryable=True,
)


class Quotas:
    """The limits of users and addresses; those of one session are `SessionLimits`.

    Args:
        settings: the limits.
        authenticators: tell which users are proven.
    """

    def __init__(self, settings: GatewaySettings, authenticators: Sequence[Authenticator]) -> None:
        self.logins = Logins(settings.logins, settings.logins_per_address, settings.denials_per_minute_per_address)
        self._loopback_is_limited = not settings.loopback_exempt
        self._sessions_max = settings.sessions_per_user
        self._unproven = {authenticator.scheme for authenticator in authenticators if authenticator.development}
        self._of_user = Buckets(settings.messages_per_second_per_user, settings.messages_burst_per_user, USERS_MAX)
        self._of_address = Buckets(
            settings.messages_per_second_per_address, settings.messages_burst_per_address, USERS_MAX
        )
        self._seats: dict[str, dict[str, Seat]] = {}

    def address(self, peer: str) -> str | None:
        """What a link's peer is counted under, None when it is not counted by address."""
        if peer == "unix":
            return None
        return network_of(peer.rpartition(":")[0].strip("[]"), loopback_is_limited=self._loopback_is_limited)

    def is_proven(self, scheme: object) -> bool:
        """Whether the users of an authentication scheme are who they say they are."""
        return scheme not in self._unproven

    def shared(self, seat: Seat, peer: str) -> list[Bucket]:
        """The buckets that a seat's messages are taken from besides its own, while it is carried from `peer`."""
        address = self.address(peer)
        buckets = [] if address is None else [self._of_address.of(address)]
        if seat.is_proven:
            buckets.append(self._of_user.of(seat.user))
        return buckets

    def enter(self, seat: Seat) -> bool:
        """Count a new seat in, in the place of one whose client is away if need be; False when there is none."""
        if not seat.is_proven:
            return True
        seats = self._seats.setdefault(seat.user, {})
        if len(seats) >= self._sessions_max:
            away = next((other for other in seats.values() if other.link is None), None)
            if away is None:
                return False
            away.give_up(CloseCode.OVERLOADED, "the user has come back with other sessions")
            seats = self._seats.setdefault(seat.user, {})
        seats[seat.session.id] = seat
        return True

    def leave(self, seat: Seat) -> None:
        """A seat has ended."""
        seats = self._seats.get(seat.user, {})
        seats.pop(seat.session.id, None)
        if not seats:
            self._seats.pop(seat.user, None)
