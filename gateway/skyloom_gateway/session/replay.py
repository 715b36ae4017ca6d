"""The last pushes of a session, for a client that comes back."""

from collections.abc import Iterator


class Replay:
    """Keeps pushes until they are acknowledged, or pushed out by newer ones.

    It keeps the tails that all recipients of a push share (see `Codec.push_tail`), never a frame of its own: a room of
    1,000 keeps each message once.

    Args:
        pushes_max: how many it keeps.
        bytes_max: how many bytes of them.

    Attributes:
        seq: the number of the last push, 0 before the first.
        base: pushes up to this number are gone.
        size: bytes kept.
    """

    __slots__ = ("_bytes_max", "_pushes_max", "_tails", "base", "seq", "size")

    def __init__(self, pushes_max: int, bytes_max: int) -> None:
        self._pushes_max = pushes_max
        self._bytes_max = bytes_max
        self._tails: dict[int, bytes] = {}
        self.seq = 0
        self.base = 0
        self.size = 0

    def add(self, tail: bytes) -> int:
        """Keep a push and number it. The oldest go when there are too many."""
        self.seq = seq = self.seq + 1
        self._tails[seq] = tail
        self.size = size = self.size + len(tail)
        while size > self._bytes_max or seq - self.base > self._pushes_max:
            self.base = oldest = self.base + 1
            self.size = size = size - len(self._tails.pop(oldest))
        return seq

    def trim(self, seq: int) -> None:
        """Forget pushes up to `seq`; a number that was not given out yet counts as the last that was."""
        seq = min(seq, self.seq)
        while self.base < seq:
            self.base += 1
            self.size -= len(self._tails.pop(self.base))

    def reaches(self, seq: int) -> bool:
        """Whether all pushes after `seq` are here; not when there was no push of that number yet."""
        return self.base <= seq <= self.seq

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Number and tail of each push that is kept, oldest first."""
        return iter(self._tails.items())

    def clear(self) -> None:
        """Forget all; the count goes on."""
        self._tails.clear()
        self.base, self.size = self.seq, 0
