"""Prove an engine against the padded one on made-up rows, before it takes over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rerank_server.engine.interface import Engine, Outputs, Row

LENGTHS = (23, 1, 64, 7, 150, 40)
LONGEST = 600
"""Tokens of the longest row that is made up to see a sliding window at work."""
PREFIX = 11
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1, "float16": 2e-2}
"""Largest difference, relative to the largest value, or to one where that is smaller."""


def made_up_rows(
    vocabulary: int,
    *,
    positions: int | None,
    pad_id: int,
    type_ids: bool,
    window: int = 0,
    onlookers: bool = False,
) -> list[Row]:
    """Return rows of different lengths, the same every time: some alone, some with a common beginning.

    One is longer than a sliding window, where that is not too long. With `onlookers` one ends in tokens that
    none attends to.
    """
    numbers = np.random.default_rng(20)
    limit = positions or LONGEST
    lengths = [min(length, limit) for length in LENGTHS]
    if window and 2 * window + 9 <= LONGEST:
        lengths.append(min(2 * window + 9, limit))

    def ids(count: int) -> list[int]:
        drawn = numbers.integers(0, vocabulary, count)
        return [int(each) for each in np.where(drawn == pad_id, (pad_id + 1) % vocabulary, drawn)]

    rows = [Row(ids(length), _halved(length) if type_ids else None) for length in lengths]
    prefix = ids(min(PREFIX, limit - 1))
    for length in (3, 30, 1):
        together = (prefix + ids(length))[:limit]
        rows.append(Row(together, _halved(len(together)) if type_ids else None, shared=len(prefix)))
    if onlookers:
        rows.append(replace(rows[0], unattended=min(5, len(rows[0].ids) - 1)))
    return rows


def _halved(length: int) -> list[int]:
    return [0] * (length - length // 2) + [1] * (length // 2)


@dataclass(frozen=True)
class Agreement:
    """How near an engine's values are to the padded one's."""

    difference: float
    """The largest, absolute."""
    allowed: float
    tokens: int
    """Of the row where it is."""

    @property
    def objection(self) -> str | None:
        """Say why the engine must not be used, or nothing."""
        if self.difference <= self.allowed:
            return None
        return (
            f"on a made-up row of {self.tokens} tokens it differs from the padded engine by "
            f"{self.difference:.2g}, and {self.allowed:.2g} is allowed"
        )


def compare(engine: Engine, expected: Outputs, rows: Sequence[Row]) -> Agreement:
    """Run the rows, and set the values beside the padded engine's, which are finite."""
    largest = max(float(np.abs(each).max()) for each in expected)
    allowed = TOLERANCE[engine.dtype] * max(1.0, largest)
    differences = [float(np.abs(a - b).max()) for a, b in zip(engine.run(rows), expected, strict=True)]
    differences = [each if math.isfinite(each) else math.inf for each in differences]
    worst = int(np.argmax(differences))
    return Agreement(differences[worst], allowed, len(rows[worst].ids))
