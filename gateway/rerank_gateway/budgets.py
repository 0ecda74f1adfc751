"""What a consumer may use in a minute, counted afterwards: a bucket a consumer that may be in debt. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MINUTE_S = 60.0


class Kind(StrEnum):
    """What is limited."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True)
class Bucket:
    """How much a consumer may still use; below zero it owes some."""

    level: float
    at: float
    """When that was so, in seconds."""

    def filled(self, limit: int, capacity: float, now: float) -> "Bucket":
        """Return the bucket as it is now: it gains `limit` a minute, and holds no more than `capacity`."""
        gained = max(0.0, now - self.at) * limit / MINUTE_S
        return Bucket(min(capacity, self.level + gained), now)


@dataclass(frozen=True)
class Debt:
    """Why a consumer has to wait."""

    limit: int
    """A minute."""
    until: int
    """Unix seconds, rounded up: when it owes nothing any more."""
    kind: Kind = Kind.TOKENS


@dataclass
class Budgets:
    """The buckets of all consumers that have a limit of one kind. One that has not used anything is full.

    A full bucket holds what the limit gives in a minute and `spare_s` seconds. The spare is for what is heard
    late of Envoy's own bucket before it: else who keeps to the limit would be in debt.
    """

    kind: Kind = Kind.TOKENS
    spare_s: float = 0.0
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def charge(self, consumer: str, amount: int, limits: Mapping[str, int], now: float) -> None:
        """Take what was used. `limits` are those of a minute; who has none is not charged."""
        if amount <= 0 or (limit := limits.get(consumer)) is None:
            return
        filled = self._bucket(consumer, limit, now)
        self.buckets[consumer] = Bucket(filled.level - amount, now)

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
                debts[consumer] = Debt(limit, math.ceil(paid), self.kind)
            elif bucket.level >= self._capacity(limit):
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

    def levels(self, limits: Mapping[str, int], now: float) -> dict[str, float]:
        """Return what is in the buckets that are not full."""
        return {
            consumer: self._bucket(consumer, limit, now).level
            for consumer, limit in limits.items()
            if consumer in self.buckets
        }

    def lower(self, levels: Mapping[str, float], limits: Mapping[str, int], now: float) -> None:
        """Let no bucket hold more than somebody else says, who has counted for longer."""
        for consumer, level in levels.items():
            if (limit := limits.get(consumer)) is not None:
                known = self._bucket(consumer, limit, now).level
                self.buckets[consumer] = Bucket(min(known, level), now)

    def _bucket(self, consumer: str, limit: int, now: float) -> Bucket:
        capacity = self._capacity(limit)
        return self.buckets.get(consumer, Bucket(capacity, now)).filled(limit, capacity, now)

    def _capacity(self, limit: int) -> float:
        return limit * (1 + self.spare_s / MINUTE_S)
