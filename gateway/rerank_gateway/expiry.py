"""Until when the certificate counts that callers see. Envoy serves with an expired one and says nothing.

Envoy is asked, not the file: a renewed one that it cannot use leaves the earlier one in use.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rerank_gateway.admin import certificate_ends

CHECK_S: Final = 10.0

log = logging.getLogger(__name__)


class Expiry:
    """What Envoy said last; `follow` runs beside it."""

    def __init__(self) -> None:
        self.at: float | None = None
        """Seconds since 1970; None where no TLS is spoken, or while Envoy is away."""
        self._told: float | None = None

    async def follow(self, admin: Path) -> None:
        """Ask the Envoy of this socket, again and again."""
        while True:
            self.take(await certificate_ends(admin), time.time())
            await asyncio.sleep(CHECK_S)

    def take(self, at: float | None, now: float) -> None:
        """Keep when it ends, and log an end that has passed, once for each certificate."""
        self.at = at
        if at is not None and at <= now and at != self._told:
            self._told = at
            ended = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
            log.warning(
                "the TLS certificate expired at %s, so callers refuse it: put a new one in its place", ended
            )
