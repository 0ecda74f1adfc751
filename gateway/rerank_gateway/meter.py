"""The agent's meter: keeps the ledger, charges what was used, and has Envoy refuse who owes some."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rerank_gateway import snapshot
from rerank_gateway.budgets import Budgets, Debt, Kind
from rerank_gateway.metering import Ledger, Use
from rerank_gateway.publication import Publication
from rerank_gateway.snapshot import Snapshot
from rerank_gateway.tallies import Learned, Place, Report, Tally, Used

HEARD_LATE_S = 1.0
"""How much the time may vary between a request and the word of it: docs/decisions/0023."""


class Meter:
    """Stands between what the source says and what is published."""

    def __init__(self, publication: Publication, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix seconds."""
        self.ledger = Ledger()
        self._publication = publication
        self._clock = clock
        self._budgets = {
            Kind.REQUESTS: Budgets(Kind.REQUESTS, spare_s=HEARD_LATE_S),
            Kind.TOKENS: Budgets(Kind.TOKENS),
        }
        self._tally = Tally(secrets.token_hex(8), clock())
        self._told: Snapshot | None = None
        self._limits: Mapping[Kind, Mapping[str, int]] = {kind: {} for kind in Kind}
        self.debts: Mapping[str, Debt] = {}
        """Who is refused now, and why."""
        self._charged = asyncio.Event()

    def publish(self, told: Snapshot) -> None:
        """Publish a snapshot, with those refused that owe something."""
        self._told = told
        self._limits = told.per_minute()
        self.debts = self._owing()
        self._publication.publish(snapshot.refusing(told, self.debts) if self.debts else told)
        self._charged.set()

    def take(self, uses: Sequence[Use]) -> None:
        """Count what Envoy tells."""
        if self._told is None:
            return
        for use in uses:
            if use.ended:
                self.ledger.add(use, self._told.consumers, self._told.models, self._told.hosts)
            if any(use.consumer in limits for limits in self._limits.values()):
                used = Used(int(use.counts), use.tokens)
                self._tally.add(use.consumer, used.requests, used.tokens)
                self._charge(use.consumer, used)
        self.settle()

    def report(self, heard: Place | None) -> Report:
        """Return what another replica of this gateway is told."""
        now = self._clock()
        report = self._tally.report(heard, now)
        if not report.whole:  # as a peer asks four times a second: no bucket is looked at for that
            return report
        left = {kind: budgets.levels(self._limits[kind], now) for kind, budgets in self._budgets.items()}
        return replace(report, left=left)

    def learn(self, learned: Learned) -> None:
        """Charge what was used through another replica of this gateway."""
        for consumer, used in learned.charges.items():
            self._charge(consumer, used)
        for kind, levels in learned.left.items():
            self._budgets[kind].lower(levels, self._limits[kind], self._clock())
        self.settle()

    def is_itself(self, report: Report) -> bool:
        """Say whether a report is this agent's own."""
        return report.agent == self._tally.agent

    def settle(self) -> None:
        """Publish anew where debts have come, changed or gone."""
        if self._told is not None and self._owing() != self.debts:
            self.publish(self._told)

    async def forgive(self) -> None:
        """Let consumers in again as their debts are paid, until cancelled."""
        while True:
            self._charged.clear()
            now = self._clock()
            waits = [budgets.next_paid(self._limits[kind], now) for kind, budgets in self._budgets.items()]
            wait = min((wait for wait in waits if wait is not None), default=None)
            try:
                await asyncio.wait_for(self._charged.wait(), wait)
            except TimeoutError:
                self.settle()

    def _charge(self, consumer: str, used: Used) -> None:
        now = self._clock()
        self._budgets[Kind.REQUESTS].charge(consumer, used.requests, self._limits[Kind.REQUESTS], now)
        self._budgets[Kind.TOKENS].charge(consumer, used.tokens, self._limits[Kind.TOKENS], now)

    def _owing(self) -> dict[str, Debt]:
        """Return who owes something; of two debts the one that lasts longer."""
        now = self._clock()
        debts: dict[str, Debt] = {}
        for kind, budgets in self._budgets.items():
            for consumer, debt in budgets.owing(self._limits[kind], now).items():
                if consumer not in debts or debts[consumer].until < debt.until:
                    debts[consumer] = debt
        return debts
