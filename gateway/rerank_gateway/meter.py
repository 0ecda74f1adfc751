"""The agent's meter: keeps the ledger, charges tokens, and has Envoy refuse who owes some."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from rerank_gateway import snapshot
from rerank_gateway.budgets import Budgets, Debt
from rerank_gateway.metering import Ledger, Use
from rerank_gateway.publication import Publication
from rerank_gateway.snapshot import Snapshot


class Meter:
    """Stands between what the source says and what is published."""

    def __init__(self, publication: Publication, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix seconds."""
        self.ledger = Ledger()
        self._publication = publication
        self._clock = clock
        self._budgets = Budgets()
        self._told: Snapshot | None = None
        self._limits: Mapping[str, int] = {}
        self._debts: Mapping[str, Debt] = {}
        self._charged = asyncio.Event()

    def publish(self, told: Snapshot) -> None:
        """Publish a snapshot, with those refused that owe tokens."""
        self._told = told
        self._limits = {
            name: consumer.tokens_per_minute
            for name, consumer in told.consumers.items()
            if consumer.tokens_per_minute is not None
        }
        self._debts = self._budgets.owing(self._limits, self._clock())
        self._publication.publish(snapshot.refusing(told, self._debts) if self._debts else told)
        self._charged.set()

    def take(self, uses: Sequence[Use]) -> None:
        """Count what Envoy tells."""
        if self._told is None:
            return
        now = self._clock()
        for use in uses:
            self.ledger.add(use, self._told.consumers, self._told.models, self._told.hosts)
            self._budgets.charge(use.consumer, use.tokens, self._limits, now)
        self._settle()

    async def forgive(self) -> None:
        """Let consumers in again as their debts are paid, until cancelled."""
        while True:
            self._charged.clear()
            wait = self._budgets.next_paid(self._limits, self._clock())
            try:
                await asyncio.wait_for(self._charged.wait(), wait)
            except TimeoutError:
                self._settle()

    def _settle(self) -> None:
        if self._told is not None and self._budgets.owing(self._limits, self._clock()) != self._debts:
            self.publish(self._told)
