"""When to start again what has ended by itself: pure."""

from dataclasses import dataclass

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
"""What was ready for this long is taken for sound: its next end counts as the first."""


@dataclass(frozen=True)
class Crash:
    """Ends in a row of one process, and when it may be started again. Times are of one monotonic clock."""

    failures: int
    retry_at: float
    message: str


def after_end(before: Crash | None, message: str, *, ready_since: float | None, now: float) -> Crash:
    """Return what is known after one more end. The pause doubles from 0.2 s to 30 s."""
    sound = ready_since is not None and now - ready_since >= HEALTHY_S
    failures = 1 if before is None or sound else before.failures + 1
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return Crash(failures, now + pause, message)
