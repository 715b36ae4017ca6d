"""What a session answers a request with that it does not let through."""

from typing import Final

from skyloom_gateway.wire.codes import ErrorKind, WireError

ANSWER_GONE: Final = WireError(
    "gateway.answer_gone",
    ErrorKind.FAILED_PRECONDITION,
    "this request was answered before, and the answer is no longer kept: ask what became of it",
)


def too_many_requests(requests_max: int) -> WireError:
    """More requests wait for their answers than may."""
    return WireError(
        "gateway.too_many_requests",
        ErrorKind.RESOURCE_EXHAUSTED,
        "too many requests wait for an answer: wait for some of them",
        retryable=True,
        details={"requests_in_flight_max": requests_max},
    )


def rate_limited(retry_after: float) -> WireError:
    """Over a rate; the next may come after so many seconds."""
    return WireError(
        "gateway.rate_limited",
        ErrorKind.RESOURCE_EXHAUSTED,
        "too many messages: wait before the next",
        retryable=True,
        details={"retry_after": retry_after},
    )
