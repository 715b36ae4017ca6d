"""What one client may do."""

from dataclasses import dataclass, fields

HELLO_TIMEOUT_SECONDS = 5.0
HELLO_BYTES_MAX = 4096
EARLY_FRAMES_MAX = 32
FRAME_BYTES_MAX = 65_536
MESSAGES_PER_SECOND = 50.0
MESSAGES_BURST = 100
# Acks, pings and pongs cost little, and one ack per push is honest use even in a busy room.
CONTROLS_PER_SECOND = 1000.0
CONTROLS_BURST = 2000
# A client that comes back repeats what it lacks an answer for, and no more; a short request may have a long answer.
REPEATS_PER_SECOND = 50.0
REPEATS_BURST = 512
REFUSALS_MAX = 100
NOTICE_INTERVAL_SECONDS = 1.0
# Above the burst, so that a client within its rate never meets it, however slow the answers are.
REQUESTS_IN_FLIGHT_MAX = 128
RESUME_SECONDS = 60.0
REPLAY_PUSHES_MAX = 256
REPLAY_BYTES_MAX = 131_072
ANSWERS_MAX = 256
ANSWERS_BYTES_MAX = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The limits of a session, all on by default.

    Args:
        hello_timeout_seconds: from the connection to the welcome.
        hello_bytes_max: of all frames before the welcome.
        early_frames_max: frames that a client may send after its hello without waiting for the welcome.
        frame_bytes_max: of one frame after the welcome.
        messages_per_second: requests and notifies.
        messages_burst: requests and notifies at once, after a quiet time.
        controls_per_second: acks, pings and pongs.
        controls_burst: acks, pings and pongs at once.
        repeats_per_second: requests that came before.
        repeats_burst: requests that came before at once.
        refusals_max: frames over a rate, less the frames within it that came between, that close the session.
        notice_interval_seconds: the least time between two errors about dropped frames that have no answer.
        requests_in_flight_max: requests without an answer yet.
        resume_seconds: how long a session waits for its client.
        replay_pushes_max: pushes kept for a client that comes back.
        replay_bytes_max: bytes of them.
        answers_max: answers kept for requests that are repeated.
        answers_bytes_max: bytes of them.

    Raises:
        ValueError: a limit is not above 0.
    """

    hello_timeout_seconds: float = HELLO_TIMEOUT_SECONDS
    hello_bytes_max: int = HELLO_BYTES_MAX
    early_frames_max: int = EARLY_FRAMES_MAX
    frame_bytes_max: int = FRAME_BYTES_MAX
    messages_per_second: float = MESSAGES_PER_SECOND
    messages_burst: int = MESSAGES_BURST
    controls_per_second: float = CONTROLS_PER_SECOND
    controls_burst: int = CONTROLS_BURST
    repeats_per_second: float = REPEATS_PER_SECOND
    repeats_burst: int = REPEATS_BURST
    refusals_max: int = REFUSALS_MAX
    notice_interval_seconds: float = NOTICE_INTERVAL_SECONDS
    requests_in_flight_max: int = REQUESTS_IN_FLIGHT_MAX
    resume_seconds: float = RESUME_SECONDS
    replay_pushes_max: int = REPLAY_PUSHES_MAX
    replay_bytes_max: int = REPLAY_BYTES_MAX
    answers_max: int = ANSWERS_MAX
    answers_bytes_max: int = ANSWERS_BYTES_MAX

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not value > 0:
                raise ValueError(f"{limit.name} is {value}: it must be above 0")
