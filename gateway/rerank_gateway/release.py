"""How the agent has Envoy send a request again that it held: a header that nobody else can say.

Envoy's retry policy knows the header's value, and so does the agent; model servers do not, whose answers come
the same way. Whichever of the two processes starts first makes it up, in the directory that both share.
"""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

RELEASE_HEADER: Final = "x-rerank-release"
"""Of a response to Envoy, with the key for a value: the request is to be sent to a replica. Callers never
see it."""

RELEASE_STATUS: Final = 425
"""Too Early (RFC 8470). No 5xx: those may count against who says them."""

ATTEMPT_HEADER: Final = "x-envoy-attempt-count"
"""Of a request: which attempt it is, from 1. Envoy writes it."""

RETRIES: Final = 3
"""How often Envoy sends a request again, whatever the reason."""

_FILE = "release.key"


def key(directory: Path) -> str:
    """Return the key of this gateway; the first to ask makes it. Raises `OSError`."""
    found = known_key(directory)
    if found is not None:
        return found
    descriptor, part = tempfile.mkstemp(prefix=f".{_FILE}.", dir=directory)  # for its owner alone
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
        with contextlib.suppress(FileExistsError):  # the other process was quicker, and its key counts
            os.link(part, directory / _FILE)
    finally:
        Path(part).unlink()
    return (directory / _FILE).read_text(encoding="ascii")


def known_key(directory: Path) -> str | None:
    """Return the key if there is one."""
    try:
        return (directory / _FILE).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
