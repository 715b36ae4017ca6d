"""What an operator can set of tickets and tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyloom_gateway.settings_values import OptionalPath, OptionalSecret, OptionalText, Paths, Section, Words

_DAY_SECONDS = 86_400.0


class TicketSettings(Section):
    """Tickets of a login server of one's own; see `skyloom_gateway.auth.ticket`."""

    keys: Annotated[
        OptionalSecret,
        Field(
            description="keys that tickets are signed with, as ID:SECRET, separated by commas; "
            "the first one signs what `skyloom ticket` makes"
        ),
    ] = None
    keys_file: Annotated[OptionalPath, Field(description="file that holds the keys instead, one a line")] = None
    audience: Annotated[
        str, Field(min_length=1, max_length=255, description="the `aud` of tickets for this server")
    ] = "skyloom"
    lifetime_seconds: Annotated[
        float, Field(gt=0, le=_DAY_SECONDS, description="how far ahead a ticket may expire; later ones are refused")
    ] = 3600.0
    skew_seconds: Annotated[
        float,
        Field(ge=0, le=300, description="how long after its end a ticket is taken, for clocks that differ"),
    ] = 5.0
    used_max: Annotated[
        int,
        Field(
            ge=1,
            le=10_000_000,
            description="used tickets that are remembered until they expire; over it no tickets are taken",
        ),
    ] = 100_000


class JwtSettings(Section):
    """Tokens of an identity provider; see `skyloom_gateway.auth.jwt`."""

    key_files: Annotated[
        Paths,
        Field(
            description="files, separated by commas, each with a public key in PEM or, for HS256, with a secret of "
            "32 bytes or more; a token may be signed with any of them"
        ),
    ] = ()
    algorithms: Annotated[
        Words, Field(description="algorithms that are taken, whatever a token says of itself: RS256, ES256, ...")
    ] = ()
    audience: Annotated[OptionalText, Field(description="the `aud` of tokens for this server")] = None
    issuer: Annotated[OptionalText, Field(description="the `iss` that tokens must have; off: any")] = None
    user_claim: Annotated[
        str, Field(min_length=1, max_length=255, description="the claim that holds the user's name")
    ] = "sub"
    skew_seconds: Annotated[
        float,
        Field(ge=0, le=300, description="how long after its end a token is taken, for clocks that differ"),
    ] = 30.0
