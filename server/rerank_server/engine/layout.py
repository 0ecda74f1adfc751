"""How rows lie one after another in one forward pass without padding, and who attends to whom. Pure numpy.

A row is one stretch of tokens. Where rows begin with the same ids and those are to be computed once, that
prefix is a stretch of its own, and each of its rows is a stretch that attends to it and to itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_server.engine.interface import Row
from rerank_server.engine.segments import last_counted

Places = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that attend to one another, and to those of a prefix before them."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0
    unattended: int = 0
    """How many tokens at its end no token attends to."""

    @property
    def attended(self) -> int:
        """Return how many of its own tokens are attended to."""
        return self.length - self.unattended


@dataclass(frozen=True, slots=True)
class Numbering:
    """How a model numbers the positions of a row."""

    first: int = 0
    skipped: int | None = None
    """RoBERTa-likes give this id the position before the first, and do not count it."""

    def of(self, ids: Sequence[int]) -> Places:
        """Return the position of each id of a row: [ids]."""
        if self.skipped is None:
            return np.arange(self.first, self.first + len(ids), dtype=np.int32)
        counted = np.asarray(ids) != self.skipped
        return np.where(counted, self.first - 1 + np.cumsum(counted), self.first - 1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Layout:
    """One forward pass. Arrays are int32."""

    ids: Places
    """[tokens]"""
    positions: Places
    """[tokens]"""
    type_ids: Places
    """[tokens]; zero where rows say nothing."""
    typed: bool
    """Whether a row says something."""
    stretches: tuple[Stretch, ...]
    """In the order of their starts; together they cover all tokens."""
    lengths: Places
    """[rows], of the tokens that are a row's own."""
    starts: Places
    """[rows]"""
    last: Places
    """[rows]: the token at which a row is read where a model reads its end."""

    @property
    def scattered(self) -> bool:
        """Say whether a stretch attends to other tokens than all of its own."""
        return any(stretch.prefix_length or stretch.unattended for stretch in self.stretches)

    def query_edges(self) -> Places:
        """Return where stretches begin among the tokens, and the end: [stretches + 1]."""
        return _edges([stretch.length for stretch in self.stretches])

    def key_edges(self) -> Places:
        """Return the same for what each stretch attends to, prefix and own tokens: [stretches + 1]."""
        return _edges([stretch.prefix_length + stretch.attended for stretch in self.stretches])

    def key_places(self) -> Places:
        """Return the tokens to which stretches attend, stretch by stretch: [key_edges()[-1]]."""
        ranges = [
            np.arange(start, start + length, dtype=np.int32)
            for each in self.stretches
            for start, length in (
                (each.prefix_start, each.prefix_length),
                (each.start, each.attended),
            )
        ]
        return np.concatenate(ranges)


def lay_out(
    rows: Sequence[Row], numbering: Numbering, *, share: bool = False, skipped: int | None = None
) -> Layout:
    """Lay rows out, in their order, or with `share` request by request behind their prefixes.

    What is shared is told by the ids themselves; `Row.shared` says only how far to look. `skipped` is the id
    that does not count as a row's last token. Prefixes are for models that attend causally.
    """
    builder = _Builder(numbering)
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        shared = _shareable(row) if share else 0
        prefix = (tuple(row.ids[:shared]), tuple((row.type_ids or ())[:shared]))
        groups.setdefault(prefix if shared else place, []).append(place)
    starts, lengths, last = (np.zeros(len(rows), dtype=np.int32) for _ in range(3))
    for members in groups.values():
        common = _shareable(rows[members[0]]) if len(members) > 1 else 0
        before = builder.add(rows[members[0]], 0, common) if common else 0
        for place in members:
            row = rows[place]
            start = builder.add(row, common, len(row.ids), before)
            read = last_counted(row.ids, skipped)
            starts[place], lengths[place] = start, len(row.ids) - common
            last[place] = start + read - common if read >= common else before + read
    return builder.done(starts, lengths, last)


def _shareable(row: Row) -> int:
    """Return how many leading ids may be shared: one token at least stays the row's own, to be a stretch."""
    return max(0, min(row.shared, len(row.ids) - 1 - row.unattended))


class _Builder:
    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self._tokens = 0
        self._ids: list[npt.NDArray[np.int32]] = []
        self._positions: list[Places] = []
        self._type_ids: list[Places] = []
        self._typed = False
        self._stretches: list[Stretch] = []

    def add(self, row: Row, first: int, end: int, prefix_start: int = 0) -> int:
        """Append the ids `first` to `end` of a row; those before `first` lie at `prefix_start`."""
        start, length = self._tokens, end - first
        ids = row.ids[first:end]
        self._ids.append(np.asarray(ids, dtype=np.int32))
        self._positions.append(self._numbering.of(row.ids)[first:end])
        type_ids = [0] * length if row.type_ids is None else row.type_ids[first:end]
        self._type_ids.append(np.asarray(type_ids, dtype=np.int32))
        self._typed |= row.type_ids is not None
        unattended = row.unattended if end == len(row.ids) else 0
        self._stretches.append(Stretch(start, length, prefix_start, first, unattended))
        self._tokens += length
        return start

    def done(self, starts: Places, lengths: Places, last: Places) -> Layout:
        return Layout(
            np.concatenate(self._ids),
            np.concatenate(self._positions),
            np.concatenate(self._type_ids),
            self._typed,
            tuple(self._stretches),
            lengths,
            starts,
            last,
        )


def passes(rows: Sequence[Row], max_tokens: int, *, share: bool = False) -> Iterator[range]:
    """Divide rows, in their order, into forward passes of at most `max_tokens`; a longer row runs alone.

    With `share` the beginning that a row has in common with the one before counts once in a pass.
    """
    start = tokens = 0
    for place, row in enumerate(rows):
        length = len(row.ids)
        known = _shareable(row) if share and place > start else 0
        if known and (rows[place - 1].shared != row.shared or rows[place - 1].ids[:known] != row.ids[:known]):
            known = 0
        if place > start and tokens + length - known > max_tokens:
            yield range(start, place)
            start, tokens, known = place, 0, 0
        tokens += length - known
    yield range(start, len(rows))


def _edges(lengths: Sequence[int]) -> Places:
    edges = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=edges[1:])
    return edges
