"""The one snapshot that is served now, and who wants to hear of the next."""

import asyncio
import contextlib
from collections.abc import Iterator

from rerank_gateway.snapshot import Snapshot


class Publication:
    """Holds the latest snapshot for the ADS streams and the listing of one event loop."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        """None until the first complete view: nothing may be answered before."""
        self._listeners: set[asyncio.Event] = set()

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the snapshot. A listener that is slow sees the latest, not each one."""
        self.snapshot = snapshot
        self.wake()

    def wake(self) -> None:
        """Have every listener look again."""
        for listener in self._listeners:
            listener.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each publication for as long as the context lasts."""
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
