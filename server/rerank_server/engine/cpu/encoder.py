"""The forward pass of BERT, RoBERTa and XLM-RoBERTa over packed rows.

Every tensor is [tokens, width] with the rows of a batch one after another; nothing of a token reaches another
row. Equal to transformers' `BertModel`, `RobertaModel` and `XLMRobertaModel` in evaluation mode.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.cpu.attention import attend, extent, only_attended
from rerank_server.engine.cpu.operators import Linear
from rerank_server.engine.cpu.shapes import rows_computed, tokens_computed
from rerank_server.engine.interface import Row
from rerank_server.engine.layout import Numbering


@dataclass(frozen=True)
class Norm:
    """A layer normalisation."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, width] -> [tokens, width]."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Embeddings:
    """Token ids to hidden states."""

    words: Tensor
    """[vocabulary, width]"""
    places: Tensor
    """[segments x positions, width]: position and segment embeddings, added up in advance."""
    positions: int
    """Positions a segment has in `places`."""
    first_position: int
    """Where positions start: RoBERTa-likes count from `padding_idx + 1`."""
    norm: Norm

    @property
    def numbering(self) -> Numbering:
        """Return how positions are numbered: RoBERTa-likes do not count the padding id."""
        return Numbering(self.first_position, self.first_position - 1 if self.first_position else None)

    def __call__(self, batch: "Packed") -> Tensor:
        """Return [tokens, width]."""
        places = batch.positions
        if batch.segments is not None:
            places = places + batch.segments * self.positions
        hidden = functional.embedding(torch.from_numpy(batch.ids), self.words)
        hidden += functional.embedding(torch.from_numpy(places), self.places)
        return self.norm(hidden)


@dataclass(frozen=True)
class Feedforward:
    """What follows attention in a layer, each token by itself."""

    attended: Linear
    attended_norm: Norm
    up: Linear
    down: Linear
    down_norm: Norm

    def __call__(self, attended: Tensor, hidden: Tensor) -> Tensor:
        """What attention gave and what went into it, [tokens, width] both -> [tokens, width]."""
        hidden = self.attended_norm(self.attended.add(attended, hidden))
        return self.down_norm(self.down.add(self.up.gelu(hidden), hidden))


class Layer(Protocol):
    """One transformer layer."""

    def __call__(self, hidden: Tensor, batch: "Packed", heads: int) -> Tensor:
        """[tokens, width] -> [tokens, width], or [rows, width] of the rows' first tokens."""


@dataclass(frozen=True)
class FullLayer:
    """A layer for every token."""

    query_key_value: Linear
    """[width] -> [3 x width]"""
    rest: Feedforward

    def __call__(self, hidden: Tensor, batch: "Packed", heads: int) -> Tensor:
        """[tokens, width] -> [tokens, width]."""
        return self.rest(_attend(self.query_key_value(hidden), batch, heads), hidden)


@dataclass(frozen=True)
class LastLayerOfFirstTokens:
    """The last layer where only each row's first token is read: nothing else is queried or fed forward."""

    query: Linear
    key_value: Linear
    """[width] -> [2 x width]"""
    rest: Feedforward

    def __call__(self, hidden: Tensor, batch: "Packed", heads: int) -> Tensor:
        """[tokens, width] -> [rows, width]."""
        rows = len(batch.starts)
        first = hidden[torch.tensor([*batch.starts, *[0] * (rows_computed(rows) - rows)])]
        return self.rest(_attend_first(self.query(first), self.key_value(hidden), batch, heads), first)[:rows]


@dataclass(frozen=True)
class Encoder:
    """Embeddings and layers."""

    embeddings: Embeddings
    layers: Sequence[Layer]
    heads: int
    dtype: torch.dtype

    def __call__(self, batch: "Packed") -> Tensor:
        """Return the last hidden states: [tokens, width], or [rows, width] of the rows' first tokens.

        Tokens of no row are left out.
        """
        hidden = self.embeddings(batch)
        for layer in self.layers:
            hidden = layer(hidden, batch, self.heads)
        return hidden[: sum(batch.lengths)]

    def computed(self, lengths: Sequence[int]) -> int:
        """Return how many tokens rows of these lengths are computed as, one after another."""
        size = self.embeddings.words.shape[1] // self.heads
        return tokens_computed(sum(lengths[:-1]) + extent(self.dtype, size, lengths[-1]))


@dataclass(frozen=True)
class Packed:
    """Rows one after another, and some tokens of no row after them. Arrays are int64, [tokens]."""

    ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    """Each token's position in its row, as the model numbers them."""
    segments: npt.NDArray[np.int64] | None
    starts: Sequence[int]
    lengths: Sequence[int]
    attended: Sequence[int]
    """How many of a row's tokens are attended to, the first ones."""


def pack(rows: Sequence[Row], numbering: Numbering, tokens: int) -> Packed:
    """Put rows one after another, and tokens of no row after them, `tokens` in all."""
    lengths = [len(row.ids) for row in rows]
    segments = None
    if rows[0].type_ids is not None:
        segments = _joined([row.type_ids or () for row in rows], tokens)
    positions = np.full(tokens, numbering.first, dtype=np.int64)
    positions[: sum(lengths)] = np.concatenate([numbering.of(row.ids) for row in rows])
    return Packed(
        ids=_joined([row.ids for row in rows], tokens),
        positions=positions,
        segments=segments,
        starts=[0, *itertools.accumulate(lengths[:-1])],
        lengths=lengths,
        attended=[len(row.ids) - row.unattended for row in rows],
    )


def _joined(parts: Sequence[Sequence[int]], tokens: int) -> npt.NDArray[np.int64]:
    joined = np.zeros(tokens, dtype=np.int64)
    start = 0
    for part in parts:
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


def _attend(projected: Tensor, batch: Packed, heads: int) -> Tensor:
    """Self-attention within each row: [tokens, 3 x width] -> [tokens, width]."""
    tokens, width = projected.shape[0], projected.shape[1] // 3
    # [heads, tokens, width / heads] each, without a copy
    queries, keys, values = projected.view(tokens, 3, heads, width // heads).permute(1, 2, 0, 3)
    return attend(queries, keys, values, batch.starts, batch.lengths, attended=batch.attended)


def _attend_first(first: Tensor, projected: Tensor, batch: Packed, heads: int) -> Tensor:
    """Attention of each row's first token: [rows, width] and [tokens, 2 x width] -> [rows, width].

    There may be more `first` than rows: those attend to nothing.
    """
    rows, width = first.shape
    size = width // heads
    keys, values = projected.view(-1, 2, heads, size).permute(1, 2, 0, 3)  # [heads, tokens, size]
    keys = keys.transpose(1, 2)
    queries = (first * size**-0.5).view(rows, heads, 1, size)
    attended = torch.zeros(rows, heads, 1, size, dtype=first.dtype)
    places = zip(batch.starts, batch.lengths, batch.attended, strict=True)
    for place, (start, length, count) in enumerate(places):
        row = slice(start, start + extent(first.dtype, size, length))
        weights = torch.bmm(queries[place], keys[:, :, row])
        weights[:, :, count:] = float("-inf")
        values_of_row = only_attended(values[:, row], count)
        torch.bmm(torch.softmax(weights, -1), values_of_row, out=attended[place])
    return attended.view(rows, width)
