"""What is admitted and not answered yet. Used on the event loop only, so that it needs no lock."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rerank_server.admission import Demand, Limits, Load, Size, decide
from rerank_server.errors import OverloadedError


@dataclass(eq=False)
class Entry:
    """One request that is admitted, with all of its queries."""

    demand: Demand
    size: Size
    """By what is known of its tokens: more is, the more of it is tokenized."""
    estimated: int
    """Tokens that it counts for until they are counted and queued; 0 once it is tokenized."""
    counted: int = 0
    """Tokens that are or were in the queue: of rows that come twice, once."""
    tokenized: int = 0
    """Token ids of all rows."""


@dataclass(frozen=True)
class Share:
    """One query of a request that is admitted."""

    entry: Entry
    estimated: int


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
    def admit(self, demands: Sequence[Demand]) -> Iterator[list[Share]]:
        """Let a request of so many queries in until the block ends, or raise `OverloadedError`."""
        demand = sum(demands, Demand(0, 0))
        if refusal := decide(demand, self.load, self.limits, self._speed()):
            raise OverloadedError(refusal)
        entry = Entry(demand, self.limits.size(demand.tokens), demand.tokens)
        self._entries.add(entry)
        self._characters += demand.characters
        self._estimated[entry.size] += demand.tokens
        try:
            yield [Share(entry, each.tokens) for each in demands]
        finally:
            self._forget(entry, entry.estimated)
            self._entries.discard(entry)
            self._characters -= demand.characters

    def counted(self, share: Share, tokens: int, tokenized: int) -> None:
        """Take what was counted for the estimate of a query: `tokens` of it are in the queue from now on.

        It also says anew whether the request is a large one.
        """
        entry = share.entry
        self._forget(entry, min(share.estimated, entry.estimated))
        entry.counted += tokens
        entry.tokenized += tokenized
        size = self.limits.size(entry.counted + entry.estimated)
        self._estimated[entry.size] -= entry.estimated
        self._estimated[size] += entry.estimated
        entry.size = size

    def _forget(self, entry: Entry, tokens: int) -> None:
        self._estimated[entry.size] -= tokens
        entry.estimated -= tokens
