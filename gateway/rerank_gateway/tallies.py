"""What the replicas of one gateway tell each other, so that each knows what consumers use at all. Pure.

Each counts for itself, from its start, what its own Envoy has told, and says it to whoever asks. Who asks
charges the difference to what it was told before. A sum that only grows may be missed, or told twice, and
counts once all the same.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NewType

from rerank_gateway.budgets import Kind

FORGOTTEN_S: Final = 10.0
"""After so many seconds without a word, what a replica counted meanwhile is not charged any more."""

Peer = NewType("Peer", str)
"""A replica, by where it is asked."""


@dataclass(frozen=True)
class Used:
    """What a consumer has used through one replica."""

    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Place:
    """How far somebody has heard a replica."""

    agent: str
    revision: int


@dataclass(frozen=True)
class Report:
    """What a replica says: all that it has counted, or what has changed since a place."""

    agent: str
    """Who counts: made up at each start."""
    age_s: float
    """For how long it has counted, in seconds."""
    revision: int
    whole: bool
    used: Mapping[str, Used]
    """By consumer, since the agent started; who is left out has used no more than was said."""
    left: Mapping[Kind, Mapping[str, float]] = field(default_factory=dict)
    """What is in the buckets of all replicas together, as this one knows it; only in a whole report."""


@dataclass(frozen=True)
class Learned:
    """What follows from a report for whoever has asked for it."""

    charges: Mapping[str, Used] = field(default_factory=dict)
    left: Mapping[Kind, Mapping[str, float]] = field(default_factory=dict)
    """No bucket holds more than this."""


class Tally:
    """What this replica's own Envoy has told, since `started`, in seconds."""

    def __init__(self, agent: str, started: float) -> None:
        self.agent = agent
        self._started = started
        self._revision = 0
        self._used: dict[str, Used] = {}
        self._changed: dict[str, int] = {}
        """By consumer, the revision of the last change: the oldest first."""

    def add(self, consumer: str, requests: int, tokens: int) -> None:
        """Count what a consumer has used."""
        if requests <= 0 and tokens <= 0:
            return
        before = self._used.get(consumer, Used())
        self._used[consumer] = Used(before.requests + requests, before.tokens + tokens)
        self._revision += 1
        self._changed.pop(consumer, None)
        self._changed[consumer] = self._revision

    def report(self, heard: Place | None, now: float) -> Report:
        """Return what is new since what was heard; everything for who has heard nothing of this agent.

        What is left in the buckets, which a whole report has beside it, others know.
        """
        whole = heard is None or heard.agent != self.agent
        after = 0 if heard is None or whole else heard.revision
        used: dict[str, Used] = {}
        for consumer in reversed(self._changed):
            if self._changed[consumer] <= after:
                break
            used[consumer] = self._used[consumer]
        age_s = max(0.0, now - self._started)
        return Report(self.agent, age_s, self._revision, whole, used)


@dataclass
class _Heard:
    place: Place
    used: dict[str, Used]
    at: float


class Peers:
    """What this replica has heard of the others."""

    def __init__(self) -> None:
        self._heard: dict[Peer, _Heard] = {}

    def heard(self, peer: Peer, now: float) -> Place | None:
        """Return from where to ask on; None asks a stranger, or after too long a silence, for everything."""
        known = self._heard.get(peer)
        return None if known is None or now - known.at > FORGOTTEN_S else known.place

    def take(self, peer: Peer, report: Report, now: float) -> Learned:
        """Take a report over, and return what is to be charged.

        What a replica has counted that has just started cannot be too old: all of it is charged. Where one
        has counted for longer than it was listened to, its past is in its buckets: these are taken over.
        """
        known = self._heard.get(peer)
        place = Place(report.agent, report.revision)
        if report.whole:
            self._heard[peer] = _Heard(place, dict(report.used), now)
            if report.age_s < FORGOTTEN_S:
                return Learned(report.used)
            return Learned(left=report.left)
        if known is None or known.place.agent != report.agent:
            return Learned()  # an answer to somebody else's question
        charges = {
            consumer: _more(used, known.used.get(consumer, Used())) for consumer, used in report.used.items()
        }
        known.used.update(report.used)
        known.place, known.at = place, now
        return Learned(charges)

    def keep(self, peers: Collection[Peer]) -> None:
        """Forget every replica but these."""
        for gone in self._heard.keys() - set(peers):
            del self._heard[gone]


def _more(now: Used, before: Used) -> Used:
    return Used(max(0, now.requests - before.requests), max(0, now.tokens - before.tokens))
