"""Two authenticators of one's own: one for tokens of one's web site, one that keeps out who is banned.

skyloom gateway own_authenticator:app --set gateway.authenticators=own_authenticator:authenticator
"""

import asyncio
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from skyloom_gateway import Agent, App, Authenticator, Denied, Forbidden, Identity, Server, Settings, request
from skyloom_gateway.client import HelloRefused, connect
from skyloom_gateway.settings import GatewaySettings

TOKEN_CHARS_MAX = 256


@dataclass(frozen=True)
class Account:
    """What the web site knows of a player."""

    name: str
    roles: tuple[str, ...] = ()


class TokenAuthenticator:
    """Asks for the token that the web site gave a player: ``{"scheme": "token", "token": "..."}``.

    It knows each by its digest, so that whoever reads the table cannot come in.
    """

    scheme = "token"
    development = False  # True: warn at the start, and listen on this machine alone

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = accounts

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        token = auth.get("token")  # from a stranger: anything at all
        if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX:
            raise Denied(f"auth.token must be text of at most {TOKEN_CHARS_MAX} characters; log in to get one")
        account = self._accounts.get(digest(token))
        if account is None:
            raise Denied("the token is not valid; log in again")
        return Identity(account.name, {"roles": list(account.roles)})


class Guarded:
    """Another authenticator, whose scheme it keeps, but for those who are banned."""

    def __init__(self, inner: Authenticator, banned: Collection[str]) -> None:
        self.scheme, self.development = inner.scheme, inner.development
        self._inner, self._banned = inner, banned

    async def authenticate(self, auth: Mapping[str, object], peer: str) -> Identity:
        identity = await self._inner.authenticate(auth, peer)
        if identity.user in self._banned:
            raise Forbidden("you are banned; write to help@game.example")
        return identity


def digest(token: str) -> str:
    """By what a token of 16 random bytes or more is known; passwords need a slow one, and a login server."""
    return hashlib.sha256(token.encode()).hexdigest()


accounts = {digest("ada's token"): Account("ada", ("admin",)), digest("eve's token"): Account("eve")}
authenticator = Guarded(TokenAuthenticator(accounts), banned={"eve"})


class Me(BaseModel):
    user: str
    roles: list[str]


class ClubAgent(Agent):
    @request("club.who_am_i")
    async def who_am_i(self) -> Me:
        return Me(user=self.user, roles=self.claims["roles"])


app = App("club", agent=ClubAgent)


async def main() -> None:
    settings = Settings(gateway=GatewaySettings(port=0, tcp_port=None))
    async with Server([app], settings, [authenticator]) as server:
        for token in ("ada's token", "eve's token", "bob's token"):
            try:
                auth = {"scheme": "token", "token": token}
                async with connect(f"ws://127.0.0.1:{server.port}/ws", auth=auth) as client:
                    print(token, await client.request("club.who_am_i"))
            except HelloRefused as refused:
                print(token, refused)


if __name__ == "__main__":
    asyncio.run(main())
