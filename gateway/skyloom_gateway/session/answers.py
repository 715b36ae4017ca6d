"""What became of a session's requests, so that a repeated one is answered and not run again."""

from collections import deque

OUT_OF_ORDER_MAX = 1024
"""Forgotten ids of a client that does not count that are looked at before that is clear."""


class Answers:
    """The frames that answered the last requests, by their ids.

    ===========  ==============================================================  =======================
    an id is     when                                                            `find`
    ===========  ==============================================================  =======================
    kept         it was answered, and is among the last `answers_max`            the frame
    gone         the same, but its frame was too much for `bytes_max`;           b""
                 or it was forgotten, and the client counts its ids from 1
    unknown      it never came; or it was forgotten, and the client draws ids    None
    ===========  ==============================================================  =======================

    A client that counts is one whose ids are all used up to some number: then each id up to it was used, and one
    number remembers them all. With ids in any order that number stays 0, and nothing is said of what was forgotten.

    Args:
        answers_max: ids kept.
        bytes_max: bytes of frames kept.

    Attributes:
        size: bytes of frames kept.
    """

    __slots__ = (
        "_answers_max",
        "_bytes_max",
        "_counted",
        "_counts",
        "_frames",
        "_gone",
        "_order",
        "_out_of_order",
        "size",
    )

    def __init__(self, answers_max: int, bytes_max: int) -> None:
        self._answers_max = answers_max
        self._bytes_max = bytes_max
        self._frames: dict[int, bytes] = {}
        self._order: deque[int] | None = None  # made when it is needed: most of its size is there from the first
        # So many of the oldest have given up their bytes.
        self._gone = 0
        self._counts = True
        self._counted = 0
        self._out_of_order: set[int] | None = None
        self.size = 0

    def find(self, id: int) -> bytes | None:
        """The frame that answered a request; b"" if it is gone, None if no such request is known."""
        frame = self._frames.get(id)
        return b"" if frame is None and 0 < id <= self._counted else frame

    def keep(self, id: int, frame: bytes) -> None:
        """Keep an answer; the oldest go when there are too many."""
        order = self._order
        if order is None:
            order = self._order = deque()
        order.append(id)
        self._frames[id] = frame
        self.size += len(frame)
        while self.size > self._bytes_max:
            oldest = order[self._gone]
            self.size -= len(self._frames[oldest])
            self._frames[oldest] = b""
            self._gone += 1
        if len(order) > self._answers_max:
            self._forget(order.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._frames.clear()
        self._order = None
        self._gone = self.size = 0

    def _forget(self, id: int) -> None:
        frame = self._frames.pop(id)
        if self._gone:
            self._gone -= 1
        else:
            self.size -= len(frame)
        if id == self._counted + 1:
            self._counted = id
            if self._out_of_order:
                self._catch_up(self._out_of_order)
        elif self._counts:
            self._set_aside(id)

    def _set_aside(self, id: int) -> None:
        """Hold an id whose turn may come: answers need not come in the order of their requests."""
        if self._out_of_order is None:
            self._out_of_order = set()
        self._out_of_order.add(id)
        if len(self._out_of_order) > OUT_OF_ORDER_MAX:  # it does not count; what it did count stays true
            self._counts, self._out_of_order = False, None

    def _catch_up(self, aside: set[int]) -> None:
        while self._counted + 1 in aside:
            self._counted += 1
            aside.discard(self._counted)
