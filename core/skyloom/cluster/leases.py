"""Leases on NATS: who alone may do something, kept by the server in a JetStream key-value bucket.

Each write expects the revision that was there before, so that of two nodes only one is granted; the server deletes a
lease that is not renewed in time. What it keeps of a lease: who holds it, and its token, which is the revision by
which it was first taken (0 in that revision itself). The numbers that are told begin with the second in which the
bucket was made, so that they go on growing when it is lost or deleted, and made anew.

Written against nats-py 2.16 and nats-server 2.11 or newer, which first had a time to live for a single message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack
from nats.errors import Error as NatsError
from nats.js.api import StorageType
from nats.js.errors import APIError, NotFoundError
from nats.js.errors import Error as JetStreamError

from skyloom.cluster.transport import LEASE_SECONDS, NotConnected

if TYPE_CHECKING:
    from nats.js import JetStreamContext

MARKER_SECONDS: Final = 1
"""How long the server keeps word of a lease that ended."""

REQUEST_SECONDS: Final = 2.0
"""How long the server may take to answer."""

REVISION_BITS: Final = 32
"""Of a token, for the revision; above them is when the bucket was made. Enough for 68 years of 2 writes a second."""

WRONG_REVISION: Final = 10071
"""JetStream's error code for a write that expected another revision."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_PURGE: Final = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
_ENDED: Final = ("KV-Operation", "Nats-Marker-Reason")
"""Headers of an entry that says that there is none."""


class Leases:
    """The leases of one process; `bucket` is the cluster's. It outlives connections: each `bind` gives it a new one."""

    def __init__(self, bucket: str, holder: str) -> None:
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._holder = holder
        self._jetstream: JetStreamContext | None = None
        self._held: dict[str, tuple[int, int]] = {}  # token and last revision
        self._base = 0

    async def bind(self, jetstream: JetStreamContext) -> None:
        """Use this connection from now on. Makes the bucket if it is not there; one that an operator has made, with
        replicas for example, is left as it is. Raises nats' errors, for example for a server without JetStream.
        """
        try:
            await jetstream.key_value(self._bucket)
        except NotFoundError:
            await jetstream.create_key_value(
                bucket=self._bucket, history=1, storage=StorageType.FILE, limit_marker_ttl=MARKER_SECONDS
            )
        made = (await jetstream.stream_info(self._stream)).created
        self._base = 0 if made is None else int(made.timestamp()) << REVISION_BITS
        self._jetstream = jetstream

    def unbind(self) -> None:
        """There is no connection for now."""
        self._jetstream = None

    async def keys(self, folder: str) -> list[str]:
        """What leases there are under ``folder.``; one that has just ended may be among them. Raises NotConnected."""
        start = f"$KV.{self._bucket}.{folder}."
        try:
            info = await self._bound().stream_info(self._stream, subjects_filter=f"{start}>")
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise NotConnected(f"the leases cannot be read: {error}") from error
        return [found.removeprefix(start).replace("/", ".") for found in info.state.subjects or ()]

    async def hold(self, key: str) -> tuple[int, int]:
        """Take a lease or renew it: its token and its newest revision; (0, 0) while another holds it.

        Raises NotConnected when that cannot be known.
        """
        try:
            token, revision = self._held.get(key) or await self._found(key)
            if token < 0:
                return 0, 0
            token, revision = await self._write(key, token, revision)
            return (self._base + token, self._base + revision) if token else (0, 0)
        except (NatsError, JetStreamError, TimeoutError, OSError) as error:
            raise NotConnected(f"the lease {key!r} is not known: {type(error).__name__} {error}".rstrip()) from error

    async def _write(self, key: str, token: int, revision: int) -> tuple[int, int]:
        value = msgpack.packb([self._holder, token])
        try:
            revision = await self._publish(key, revision, value, {}, round(LEASE_SECONDS))
        except APIError as error:
            if error.err_code != WRONG_REVISION:
                raise
            self._held.pop(key, None)
            found, revision = await self._found(key)
            if found <= 0 or token not in (0, found):  # else the answer to our own write was lost
                return 0, 0
            token = found
        self._held[key] = token or revision, revision
        return self._held[key]

    async def release(self, key: str) -> None:
        """Give a lease back, if it is held. Raises NotConnected."""
        _, revision = self._held.pop(key, (0, 0))
        if revision:
            try:
                await self._publish(key, revision, b"", _PURGE, MARKER_SECONDS)
            except APIError as error:
                if error.err_code != WRONG_REVISION:  # else it has ended already
                    raise NotConnected(f"the lease {key!r} was not given back: {error}") from error
            except (NatsError, JetStreamError, TimeoutError, OSError) as error:
                raise NotConnected(f"the lease {key!r} was not given back: {error}") from error

    async def release_all(self) -> None:
        """Give all leases back. Raises NotConnected."""
        for key in list(self._held):
            await self.release(key)

    async def _publish(self, key: str, revision: int, value: bytes, headers: dict[str, str], ttl: int) -> int:
        ack = await self._bound().publish(
            self._subject(key),
            value,
            timeout=REQUEST_SECONDS,
            headers={**headers, _EXPECTED: str(revision)},
            msg_ttl=ttl,
        )
        return ack.seq

    async def _found(self, key: str) -> tuple[int, int]:
        """Token and revision of what is there: 0 for none, -1 for another's."""
        try:
            entry = await self._bound().get_last_msg(self._stream, self._subject(key))
        except NotFoundError:
            return 0, 0
        revision = entry.seq or 0
        if any(header in (entry.headers or {}) for header in _ENDED):
            return 0, revision
        holder, token = self._read(entry.data)
        return (token or revision) if holder == self._holder else -1, revision

    def _read(self, data: Any) -> tuple[str, int]:
        try:
            holder, token = msgpack.unpackb(data or b"")
        except (ValueError, TypeError):
            return "", 0  # not written by us: it ends by itself, or somebody has to look
        return holder, token

    def _bound(self) -> JetStreamContext:
        if self._jetstream is None:
            raise NotConnected("there is no connection to NATS")
        return self._jetstream

    def _subject(self, key: str) -> str:
        folder, _, name = key.partition(".")
        return f"$KV.{self._bucket}.{folder}.{name.replace('.', '/')}"
