"""Tokens a minute, counted after the answer: a bucket a consumer that may be in debt. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE_S = 60.0


@dataclass(frozen=True)
class Bucket:
    """How many tokens a consumer may still use; below zero it owes some."""

    level: float
    at: float
    """When that was so, in seconds."""

    def filled(self, limit: int, now: float) -> "Bucket":
        """Return the bucket as it is now: it gains `limit` a minute, and holds no more than that."""
        gained = max(0.0, now - self.at) * limit / MINUTE_S
        return Bucket(min(float(limit), self.level + gained), now)


@dataclass(frozen=True)
class Debt:
    """Why a consumer has to wait."""

    limit: int
    """Tokens a minute."""
    until: int
    """Unix seconds, rounded up: when it owes nothing any more."""


@dataclass
class Budgets:
    """The buckets of all consumers that have a limit. One that has not used anything is full."""

    buckets: dict[str, Bucket] = field(default_factory=dict)

    def charge(self, consumer: str, tokens: int, limits: Mapping[str, int], now: float) -> None:
        """Take what an answer cost. `limits` are tokens a minute; who has none is not charged."""
        if tokens <= 0 or (limit := limits.get(consumer)) is None:
            return
        filled = self._bucket(consumer, limit, now)
        self.buckets[consumer] = Bucket(filled.level - tokens, now)

    def owing(self, limits: Mapping[str, int], now: float) -> dict[str, Debt]:
        """Return who has to wait. Buckets that are full again, and those without a limit, are forgotten."""
        debts: dict[str, Debt] = {}
        for consumer in sorted(self.buckets):
            limit = limits.get(consumer)
            if limit is None:
                del self.buckets[consumer]
                continue
            bucket = self._bucket(consumer, limit, now)
            if bucket.level < 0:
                paid = round(now - bucket.level * MINUTE_S / limit, 3)  # else one debt ends at two times
                debts[consumer] = Debt(limit, math.ceil(paid))
            elif bucket.level >= limit:
                del self.buckets[consumer]
        return debts

    def next_paid(self, limits: Mapping[str, int], now: float) -> float | None:
        """Return in how many seconds the first debt is paid; None where nobody owes anything."""
        waits = [
            -level * MINUTE_S / limit
            for consumer, limit in limits.items()
            if consumer in self.buckets and (level := self._bucket(consumer, limit, now).level) < 0
        ]
        return min(waits, default=None)

    def _bucket(self, consumer: str, limit: int, now: float) -> Bucket:
        return self.buckets.get(consumer, Bucket(float(limit), now)).filled(limit, now)
