"""Who is a client? Authenticators answer that from what its hello frame says.

The hello's `auth` names a scheme; the authenticator of that scheme looks at the rest and returns an
`Identity`, or raises `Denied` (4401: who are you?) or `Forbidden` (4403: I know, and you may not). Write one of
your own, and name it in the setting `gateway.authenticators` as ``module:object``::

    class TokenAuthenticator:
        scheme = "token"
        development = False

        async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
            player = self.players.get(auth.get("token"))
            if player is None:
                raise Denied("the token is not valid; log in again")
            if player.banned:
                raise Forbidden("you are banned until Monday")
            return Identity(player.name, {"roles": player.roles})

Whatever the client sent is hostile until checked: `auth` holds values of any type, and nothing of it belongs
in a message. An identity's user and claims reach the agent as `self.user` and `self.claims`.
"""

from skyloom_gateway.auth.authenticator import Authenticator, authenticate
from skyloom_gateway.auth.denied import Denied, Forbidden
from skyloom_gateway.auth.guest import GuestAuthenticator
from skyloom_gateway.auth.identity import Identity
from skyloom_gateway.auth.jwt import JwtAuthenticator
from skyloom_gateway.auth.setup import AuthError
from skyloom_gateway.auth.ticket import TicketAuthenticator, TicketKey, issue_ticket

__all__ = [
    "AuthError",
    "Authenticator",
    "Denied",
    "Forbidden",
    "GuestAuthenticator",
    "Identity",
    "JwtAuthenticator",
    "TicketAuthenticator",
    "TicketKey",
    "authenticate",
    "issue_ticket",
]
