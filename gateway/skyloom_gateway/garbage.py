"""How a server process collects garbage: seldom, since everybody waits for it."""

import gc

THRESHOLDS = (10_000, 20, 20)
"""Objects made and kept between two collections of the youngest; of these between two of the next; and so on."""


def collect_seldom() -> None:
    """Collect now, leave out for good what there is, and from now on collect seldom.

    A full collection takes tens of milliseconds, most of them for modules and classes that never go. What comes and
    goes with clients and messages mostly goes by itself; see `Stream` and `WebSocketConnection.connection_lost`.
    It is the whole process's: for a server command, not for a library. Source: CPython's documentation of `gc.freeze`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
