"""How long a request may take: the caller's header within the server's own bound. Pure."""

import re
from dataclasses import dataclass

HEADER = "x-request-timeout"
_SYNTAX = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|ms)?", re.ASCII)


def parse_timeout(text: str) -> float:
    """Return the seconds that `X-Request-Timeout` asks for: `2`, `2.5`, `2.5s` or `500ms`.

    Raises `ValueError` with a sentence for anything else, and for nothing at all.
    """
    found = _SYNTAX.fullmatch(text.strip())
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if seconds <= 0:
        raise ValueError(
            f"The header X-Request-Timeout is `{text[:40]}`: it must be a number of seconds above zero, such "
            "as `2.5` or `500ms`."
        )
    return seconds


@dataclass(frozen=True)
class Deadline:
    """When a request must be answered."""

    seconds: float
    """What it has in all: the server's bound, or less where the caller asks for less."""
    longest: float
    """The server's bound."""
    began: float
    """Monotonic seconds, when its headers were there."""

    @classmethod
    def of(cls, header: str | None, longest: float, began: float) -> "Deadline":
        """Return the deadline of a request. Raises `ValueError` where the header cannot be read."""
        return cls(longest if header is None else min(longest, parse_timeout(header)), longest, began)

    def left(self, now: float) -> float:
        """Return the seconds that are left at `now`, never less than 0."""
        return max(0.0, self.began + self.seconds - now)

    def missed(self, what: str, remedy: str) -> str:
        """Say in two clauses what was not done in time, and what a caller can do."""
        return (
            f"{what} within {self.seconds:g} s: {remedy}, or allow more time with the header "
            f"X-Request-Timeout (at most {self.longest:g} s here)."
        )
