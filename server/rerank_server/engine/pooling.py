"""From token vectors to one vector a row, as sentence-transformers' modules define it, in fp32."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.readout import Step
from rerank_server.engine.segments import Segments

Pool: TypeAlias = Callable[[Tensor, Segments], Tensor]
"""(hidden [tokens, width] fp32, where the rows are) -> [rows, width]."""


def _cls(hidden: Tensor, rows: Segments) -> Tensor:
    return hidden[rows.starts]


def _last_token(hidden: Tensor, rows: Segments) -> Tensor:
    return hidden[rows.last]


def _max(hidden: Tensor, rows: Segments) -> Tensor:
    return _reduce(hidden, "max", rows)


def _mean(hidden: Tensor, rows: Segments) -> Tensor:
    return _reduce(hidden, "sum", rows) / rows.lengths.unsqueeze(1)


def _mean_sqrt_length(hidden: Tensor, rows: Segments) -> Tensor:
    return _reduce(hidden, "sum", rows) / rows.lengths.unsqueeze(1).sqrt()


def _weighted_mean(hidden: Tensor, rows: Segments) -> Tensor:
    """Weigh each token by its place in its row, counted from one."""
    starts = torch.repeat_interleave(rows.starts, rows.lengths, output_size=len(hidden))
    weights = (torch.arange(1, len(hidden) + 1, device=hidden.device) - starts).unsqueeze(1).to(hidden.dtype)
    return _reduce(hidden * weights, "sum", rows) / _reduce(weights, "sum", rows)


def _reduce(values: Tensor, how: Literal["sum", "max"], rows: Segments) -> Tensor:
    # `unsafe` leaves out a check of the lengths that would have the CPU wait for a GPU.
    return torch.segment_reduce(values, how, lengths=rows.lengths.long(), axis=0, unsafe=True)


POOLS: dict[str, Pool] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}
"""By the names of sentence-transformers' `1_Pooling/config.json`."""


def normalize(vectors: Tensor) -> Tensor:
    """Scale every row to length one: [rows, width] -> [rows, width]."""
    return functional.normalize(vectors, dim=1)


class Pooled:
    """The head of an embedding model: pooling, then further steps. Several modes are put side by side."""

    def __init__(self, modes: Sequence[str], steps: Sequence[Step] = ()) -> None:
        self._pools = tuple(POOLS[mode] for mode in modes)
        self._steps = tuple(steps)

    def __call__(self, hidden: Tensor, rows: Segments) -> Tensor:
        """Return one fp32 vector a row: [tokens, width] and where the rows are -> [rows, other width]."""
        hidden = hidden.float()
        vectors = torch.cat([pool(hidden, rows) for pool in self._pools], dim=1)
        for step in self._steps:
            vectors = step(vectors)
        return vectors
