"""What is admitted and not answered yet. Used on the event loop only, so that it needs no lock."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rerank_server.admission import Demand, Limits, Load, Size, decide
from rerank_server.errors import OverloadedError


@dataclass(eq=False)
class Entry:
    """One request that is admitted."""

    demand: Demand
    size: Size
    estimated: int
    """Tokens that it counts for until they are counted and queued; 0 from then on."""


class Ledger:
    """Lets requests in under bounds, and counts those that are in."""

    def __init__(
        self, limits: Limits, queued: Callable[[], Mapping[Size, int]], speed: Callable[[], float | None]
    ) -> None:
        """`queued` says how many tokens wait for a batch, `speed` how many are computed a second."""
        self.limits = limits
        self._queued = queued
        self._speed = speed
        self._entries: set[Entry] = set()
        self._characters = 0
        self._estimated = dict.fromkeys(Size, 0)

    @property
    def load(self) -> Load:
        """Return what is in: tokens are estimates for requests that are being tokenized."""
        queued = self._queued()
        return Load(
            len(self._entries),
            self._characters,
            {size: queued.get(size, 0) + self._estimated[size] for size in Size},
        )

    @contextlib.contextmanager
    def admit(self, demand: Demand) -> Iterator[Entry]:
        """Let a request in until the block ends, or raise `OverloadedError`."""
        if refusal := decide(demand, self.load, self.limits, self._speed()):
            raise OverloadedError(refusal)
        entry = Entry(demand, self.limits.size(demand.tokens), demand.tokens)
        self._entries.add(entry)
        self._characters += demand.characters
        self._estimated[entry.size] += demand.tokens
        try:
            yield entry
        finally:
            self.counted(entry)
            self._entries.discard(entry)
            self._characters -= demand.characters

    def counted(self, entry: Entry) -> None:
        """Forget a request's estimate: from now on its tokens are in the queue."""
        self._estimated[entry.size] -= entry.estimated
        entry.estimated = 0
