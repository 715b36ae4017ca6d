"""Output that waits for clients which do not take it, of all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyloom_gateway.listener.stream import Stream

FREED = 1 / 8  # of the limit, when it was passed: so that looking at everybody is seldom


class Backlog:
    """Holds the sum of what waits under a limit, by cutting those off for whom the most waits.

    Only those who take nothing at the moment are known here, so that the others cost nothing.

    Args:
        bytes_max: output that may wait in all.

    Attributes:
        bytes: output that waits in all, as its streams said last.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting: dict[Stream, int] = {}
        self.bytes = 0

    def weigh(self, stream: Stream, size: int) -> None:
        """So many bytes wait for a client now."""
        self.bytes += size - self._waiting.get(stream, 0)
        self._waiting[stream] = size

    def leave(self, stream: Stream) -> None:
        """A client has taken all, or is gone."""
        self.bytes -= self._waiting.pop(stream, 0)

    def limit(self) -> None:
        """When too much waits, cut those off for whom the most does, until an eighth of the limit is free."""
        if self.bytes <= self._bytes_max:
            return
        for stream in self._waiting:  # what they have taken since they were weighed does not count
            self.weigh(stream, stream.buffered_bytes)
        goal = self._bytes_max * (1 - FREED)
        for stream in sorted(self._waiting, key=self._waiting.__getitem__, reverse=True):
            if self.bytes <= goal:
                return
            stream.give_up("slow consumer: too much output waits for all clients together", "unsent_bytes_total")
