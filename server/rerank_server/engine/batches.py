"""Which rows run together. Pure: lengths and budgets in tokens, no model and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

SEPARATE_BATCH_COST = 64
"""Padded positions that cost about as much as starting one more forward pass (measured on a CPU)."""
GROWS_AFTER = 100
"""Batches that fit into memory until larger ones are tried again: one that fails then costs a hundredth."""


def split(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group rows by length under a token budget, counted as padded tokens (rows x longest).

    Returns indices into `lengths`, each exactly once, longest first. A group also ends where one more row
    would bring its padding above what a pass of its own costs. A lone oversized row still gets a group.
    """
    groups: list[list[int]] = []
    longest = padding = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        padding += longest - length
        fits = bool(groups) and (len(groups[-1]) + 1) * longest <= max_tokens
        if not fits or padding > SEPARATE_BATCH_COST:
            groups.append([])
            longest, padding = length, 0
        groups[-1].append(index)
    return groups


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is left to run of one request."""

    lengths: Sequence[int]
    """Tokens of each of its rows, in the order in which they are run; the first `start` are done."""
    start: int
    tokens: int
    """Sum of the lengths that are left."""

    def next(self, count: int) -> int:
        """Return the tokens of the next `count` rows."""
        return sum(self.lengths[self.start : self.start + count])


@dataclass(frozen=True)
class Budgets:
    """How many tokens, without padding, a batch aims at."""

    full: int
    """While no small request is near. A request with no more than that left to run is a small one."""
    mixed: int
    """While small requests come in beside large ones: they wait for whatever batch is running."""
    least: int
    """What waits is not split over idle workers into less than that."""

    @staticmethod
    def fixed(tokens: int) -> "Budgets":
        """Aim at the same whatever waits: for an accelerator, which computes one batch after the other."""
        return Budgets(tokens, tokens, tokens)

    def halved(self, times: int) -> "Budgets":
        """Aim at half, so many times over."""
        return Budgets(*(max(1, tokens >> times) for tokens in (self.full, self.mixed, self.least)))


class Fit(IntEnum):
    """How a batch fitted into memory. Of a batch that was run in parts the greatest counts."""

    WHOLE = 0
    IN_PARTS = 1
    UNKNOWN = 2
    """A row or a request failed by itself: what ran beside it was not to blame."""


@dataclass(frozen=True)
class Aim:
    """What batches aim at: half after one that fitted in parts only, twice that again after many whole."""

    most: Budgets
    """At first, and again once memory suffices."""
    halvings: int = 0
    fitted: int = 0
    """Batches that fitted since the last change; not counted where there is nothing to regain."""

    @property
    def budgets(self) -> Budgets:
        """Return what the next batch aims at."""
        return self.most.halved(self.halvings)

    def after(self, fit: Fit, tried: Budgets) -> "Aim":
        """Learn from a batch that aimed at `tried`. If that has changed since, another batch has told it."""
        if fit is Fit.UNKNOWN or tried != self.budgets:
            return self
        if fit is Fit.IN_PARTS:
            return self if tried.full == 1 else Aim(self.most, self.halvings + 1)
        if self.halvings == 0:
            return self
        if self.fitted + 1 < GROWS_AFTER:
            return replace(self, fitted=self.fitted + 1)
        return Aim(self.most, self.halvings - 1)


@dataclass(frozen=True)
class Batch:
    """The next batch, and how far those behind the oldest request have come short of their half."""

    counts: list[int]
    """How many further rows to run of each request."""
    credit: int
    """In tokens, over this batch and those before; never more than a full batch, nor below zero."""


def plan(
    waiting: Sequence[Waiting],
    budgets: Budgets,
    *,
    workers: int = 1,
    idle: int = 1,
    hurried: bool = False,
    credit: int = 0,
) -> Batch:
    """Choose the next batch for one of `idle` workers, of `workers` in all, that have nothing to do.

    What waits is split evenly over idle workers. A batch is shared half and half (`take`); where those behind
    the oldest request have had less than their half of late, because it was alone or no row of theirs was
    short enough, they have a batch of their own. So a small request that comes upon a large one runs at once.
    `hurried` says that small requests have come in lately.
    """
    if not waiting:
        return Batch([], credit)
    large = any(request.tokens > budgets.full for request in waiting)
    aim = budgets.mixed if hurried and large else budgets.full
    shorter = [place for place, request in enumerate(waiting) if request.tokens < waiting[0].tokens]
    if shorter and credit >= aim // 2 and waiting[0].tokens > aim:
        tokens = sum(waiting[place].tokens for place in shorter)
        counts = [0] * len(waiting)
        chosen = _shortest([waiting[place] for place in shorter], _share(tokens, workers, budgets.least, aim))
        for place, count in zip(shorter, chosen, strict=True):
            counts[place] = count
    else:
        tokens = sum(request.tokens for request in waiting)
        counts = take(waiting, _share(tokens, idle, budgets.least, aim))
    run = [request.next(count) for request, count in zip(waiting, counts, strict=True)]
    passing = sum(run) - run[0]
    return Batch(counts, min(budgets.full, max(0, credit + sum(run) // 2 - passing)))


def _share(tokens: int, workers: int, least: int, most: int) -> int:
    return min(most, max(least, -(-tokens // workers)))


def _shortest(waiting: Sequence[Waiting], budget: int) -> list[int]:
    """Choose rows of the requests that end first; one at least, however long."""
    turns = sorted(range(len(waiting)), key=lambda index: waiting[index].tokens)
    taken = [0] * len(waiting)
    taken[turns[0]] = 1
    _fill(taken, waiting, turns, budget - waiting[turns[0]].next(1))
    return taken


def take(waiting: Sequence[Waiting], budget: int) -> list[int]:
    """Choose the next batch: how many further rows to run of each request.

    `waiting` is in order of arrival, and every one has at least one row left. Half of the budget goes to the
    oldest requests first, so that everyone gets on; the rest to those with the fewest tokens left, so that a
    small request passes a large one. The sum stays within `budget` tokens, except that a lone row which is
    larger than the budget is taken by itself: nothing can wait for ever.
    """
    taken = [0] * len(waiting)
    if not waiting:
        return taken
    oldest = waiting[0]
    taken[0] = 1
    left = budget - oldest.lengths[oldest.start]
    left -= _fill(taken, waiting, range(len(waiting)), left - budget // 2)
    shortest_first = sorted(range(len(waiting)), key=lambda index: waiting[index].tokens)
    _fill(taken, waiting, shortest_first, left)
    return taken


def _fill(taken: list[int], waiting: Sequence[Waiting], turns: Sequence[int], budget: int) -> int:
    """Add rows to `taken`, request by request, while they fit; return the tokens that they hold."""
    used = 0
    for index in turns:
        if used >= budget:
            break
        request = waiting[index]
        place = request.start + taken[index]
        while place < len(request.lengths) and used + request.lengths[place] <= budget:
            used += request.lengths[place]
            taken[index] += 1
            place += 1
    return used
