"""Requests that wait for a model at zero replicas, as decisions: who may wait, who goes on, who is refused.

No I/O. Times are seconds of any clock that only goes forward.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from rerank_gateway.models import ServedModel
from rerank_gateway.release import RETRIES

PAUSES_S: Final = (0.05, 0.5, 2.0)
"""By attempt, how long a request waits at least. One that comes although its model has replicas has overtaken
the news of them, or Envoy reaches none of them just now."""


@dataclass(frozen=True)
class Bounds:
    """How much may wait for one model, for how long."""

    requests: int = 1_000
    bytes: int = 256 * 1024 * 1024
    """Of bodies, which Envoy holds."""
    seconds: float = 120.0
    """Well below the time that a model may take to answer, which runs meanwhile."""

    def __post_init__(self) -> None:
        if min(self.requests, self.bytes, self.seconds) <= 0:
            raise ValueError("the bounds of what waits for a model are more than 0")


DEFAULT_BOUNDS: Final = Bounds()


@dataclass(eq=False)
class Held:
    """One request that waits."""

    model: str
    """The RerankModel, whichever of its names is asked for."""
    since: float
    attempt: int
    bytes: int


@dataclass(frozen=True)
class Demand:
    """How many requests wait for a model, and since how many seconds the first of them does."""

    held: int
    oldest_s: float


class Standing(Enum):
    """How a model stands, for who waits for it."""

    GONE = auto()
    """Nobody serves it any more."""
    ASLEEP = auto()
    """It has no replica, or Envoy has not confirmed that it knows of one."""
    NOT_WAKEABLE = auto()
    """It has no replica, and no request brings one."""
    AWAKE = auto()
    """It has replicas, and every Envoy knows of them."""


class Refusal(Enum):
    """Why a request waits no longer."""

    FULL = auto()
    LATE = auto()
    GONE = auto()
    NO_REPLICA = auto()
    RESTARTING = auto()
    """The agent ends, or has only begun and knows no model."""


@dataclass(frozen=True)
class Release:
    """Send it to a replica."""


@dataclass(frozen=True)
class Wait:
    """Decide again at this time, or when its model's standing changes."""

    until: float


Verdict: TypeAlias = Release | Refusal | Wait


def standing(model: ServedModel | None, *, taken: bool) -> Standing:
    """Say how a model stands; `taken` where every Envoy has acknowledged the endpoints that it has now."""
    if model is None:
        return Standing.GONE
    if model.endpoints:
        return Standing.AWAKE if taken else Standing.ASLEEP
    return Standing.ASLEEP if model.from_zero else Standing.NOT_WAKEABLE


def decide(held: Held, stands: Standing, now: float, bounds: Bounds, *, ending: bool = False) -> Verdict:
    """Say what becomes of a request. The last attempt is never released: nobody would send it again."""
    give_up = held.since + bounds.seconds
    match stands:
        case _ if ending:
            return Refusal.RESTARTING
        case Standing.GONE:
            return Refusal.GONE
        case Standing.NOT_WAKEABLE:
            return Refusal.NO_REPLICA
        case Standing.AWAKE if held.attempt > RETRIES:
            return Refusal.NO_REPLICA
        case Standing.AWAKE:
            release_at = held.since + PAUSES_S[held.attempt - 1]
            return Release() if now >= release_at else Wait(release_at)
        case Standing.ASLEEP:
            return Refusal.LATE if now >= give_up else Wait(give_up)


class Hold:
    """Everybody who waits, counted for each model."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._held: dict[str, dict[Held, None]] = {}  # in the order in which they came
        self._bytes: dict[str, int] = {}

    def enter(self, model: str, size: int, now: float, attempt: int = 1) -> Held | None:
        """Take a request in, with the bytes that it announces; None where the model's bounds are reached."""
        waiting = len(self._held.get(model, ()))
        if waiting >= self.bounds.requests or self._bytes.get(model, 0) + size > self.bounds.bytes:
            return None
        held = Held(model, now, attempt, size)
        self._held.setdefault(model, {})[held] = None
        self._bytes[model] = self._bytes.get(model, 0) + size
        return held

    def grow(self, held: Held, size: int) -> bool:
        """Count a body that turned out larger than was announced; say whether it may stay."""
        more = max(0, size - held.bytes)
        if self._bytes[held.model] + more > self.bounds.bytes:
            return False
        held.bytes += more
        self._bytes[held.model] += more
        return True

    def leave(self, held: Held) -> None:
        """Let a request go: it goes on, is refused, or its caller has hung up."""
        waiting = self._held[held.model]
        del waiting[held]
        self._bytes[held.model] -= held.bytes
        if not waiting:
            del self._held[held.model], self._bytes[held.model]

    def demand(self, now: float) -> Mapping[str, Demand]:
        """Return who is waited for, by RerankModel, sorted."""
        return {
            model: Demand(len(waiting), max(0.0, now - next(iter(waiting)).since))
            for model, waiting in sorted(self._held.items())
        }
