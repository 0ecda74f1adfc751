"""The engine `cpu`: the encoder of our own, and in fp32 what is read out of it."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from rerank_server.engine.cpu.encoder import Encoder, Packed, pack
from rerank_server.engine.interface import Outputs, Row

Item = TypeVar("Item")


class Head(Protocol):
    """From the encoder's output to what the family asked for."""

    def __call__(self, hidden: Tensor, batch: Packed) -> Sequence[Tensor] | Tensor:
        """Return one fp32 tensor a row; `hidden` is [tokens, width] or [rows, width], fp32."""


class CpuEngine:
    """Runs rows in groups of bounded size, in the order in which they come."""

    name = "cpu"
    device = "cpu"

    def __init__(self, encoder: Encoder, head: Head, *, max_tokens: int) -> None:
        """`max_tokens` bounds the rows' tokens in one forward pass; a longer row runs alone."""
        self._encoder = encoder
        self._head = head
        self._max_tokens = max_tokens

    @property
    def dtype(self) -> str:
        """The type of weights and activations before the head."""
        return str(self._encoder.dtype).removeprefix("torch.")

    def positions(self, lengths: Sequence[int]) -> int:
        """Return the tokens that are computed: some after the last row, for few shapes of tensors."""
        return sum(self._encoder.computed(group) for group in _groups(lengths, lengths, self._max_tokens))

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> Outputs:
        """Return one fp32 array a row, in the order of `rows`."""
        outputs: Outputs = []
        lengths = [len(row.ids) for row in rows]
        for group in _groups(rows, lengths, self._max_tokens):
            tokens = self._encoder.computed([len(row.ids) for row in group])
            batch = pack(group, self._encoder.embeddings.numbering, tokens)
            hidden = self._encoder(batch).float()
            outputs.extend(each.numpy() for each in self._head(hidden, batch))
        return outputs


def _groups(rows: Sequence[Item], lengths: Sequence[int], max_tokens: int) -> Iterator[Sequence[Item]]:
    start = tokens = 0
    for place, length in enumerate(lengths):
        tokens += length
        if tokens > max_tokens and place > start:
            yield rows[start:place]
            start, tokens = place, length
    yield rows[start:]
