"""The kinds of values that settings have, and how each is written in a file or the environment."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

_OFF = ("", "off", "none")
_ORIGIN = re.compile(r"https?://[^/\s?#@]+\Z")
_AUTHENTICATOR = re.compile(r"guest\Z|ticket\Z|jwt\Z|[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


class Section(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def off(value: object) -> object:
    """TOML has no null and the environment has only text: false and the words "off" and "none" stand for it."""
    return None if value is False or (isinstance(value, str) and value.strip().lower() in _OFF) else value


def _parts(value: object) -> object:
    """Accept "a, b" as well as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _none_or_parts(value: object) -> object:
    value = _parts(off(value))
    return () if value is None else value


def _origin_list(value: object) -> object:
    value = _parts(off(value))
    if isinstance(value, list | tuple):
        for origin in value:
            if not isinstance(origin, str) or not _ORIGIN.match(origin):
                raise PydanticCustomError("origin", "each origin is scheme://host or scheme://host:port")
    return value


def _network_list(value: object) -> object:
    value = _none_or_parts(value)
    if isinstance(value, list | tuple):
        for network in value:
            try:
                ipaddress.ip_network(network if isinstance(network, str) else "")
            except ValueError:
                raise PydanticCustomError(
                    "network", "each network is an IP address, or a range of them like 10.0.0.0/8 or fd00::/8"
                ) from None
    return value


def _authenticator_list(value: object) -> object:
    value = _parts(value)
    if isinstance(value, list | tuple):
        if not value:
            raise PydanticCustomError("authenticator", "name at least one: guest, ticket, jwt or module:object")
        for name in value:
            if not isinstance(name, str) or not _AUTHENTICATOR.match(name):
                raise PydanticCustomError("authenticator", "each is guest, ticket, jwt or module:object")
    return value


Port = Annotated[int, Field(ge=0, le=65_535)]
OptionalPort = Annotated[Port | None, BeforeValidator(off)]
OptionalPath = Annotated[Path | None, BeforeValidator(off)]
OptionalText = Annotated[Annotated[str, Field(min_length=1, max_length=255)] | None, BeforeValidator(off)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(off)]
Origins = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_origin_list)]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_network_list)]
Authenticators = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_authenticator_list)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_none_or_parts)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
