"""How well two ways of scoring agree: a faster answer is worth nothing if it is another one."""

from collections.abc import Sequence
from itertools import combinations

Scores = Sequence[Sequence[float]]
"""A sequence a request, a score a document."""


def largest_difference(ours: Scores, theirs: Scores) -> float:
    """Return the largest difference of two scores of one document."""
    return max(
        abs(a - b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True)
    )


def kendall_tau(ours: Scores, theirs: Scores) -> float:
    """Return the mean over requests of Kendall's tau-a: 1 for the same order, -1 for the reverse."""
    return sum(map(_tau, ours, theirs)) / len(ours)


def _tau(mine: Sequence[float], other: Sequence[float]) -> float:
    pairs = list(combinations(zip(mine, other, strict=True), 2))
    agreeing = sum(_sign((a - c) * (b - d)) for (a, b), (c, d) in pairs)
    return agreeing / len(pairs) if pairs else 1.0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
