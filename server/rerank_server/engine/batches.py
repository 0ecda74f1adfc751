"""Which rows run together. Pure: lengths and budgets in tokens, no model and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

SEPARATE_BATCH_COST = 64
"""Padded positions that cost about as much as starting one more forward pass (measured on a CPU)."""


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
