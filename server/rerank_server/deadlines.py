"""How long a request may take: the caller's header within the server's own bound. Pure."""

import re

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


def time_allowed(header: str | None, longest: float) -> float:
    """Return the seconds that a request has: the server's bound, or less where the caller asks for less.

    Raises `ValueError` where the header cannot be read.
    """
    return longest if header is None else min(longest, parse_timeout(header))
