"""From token vectors to one vector a row, as sentence-transformers' modules define it, in fp32."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.readout import Step

Pool: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(hidden [rows, length, width] fp32, mask [rows, length] of 1 and 0, right-padded) -> [rows, width]."""


def _cls(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _mean_sqrt_length(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).sqrt()


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Weigh each token by its place, counted from one."""
    places = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
    weights = (mask * places).unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


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

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return one fp32 vector a row: [rows, length, width] and [rows, length] -> [rows, other width]."""
        vectors = torch.cat([pool(hidden.float(), mask) for pool in self._pools], dim=1)
        for step in self._steps:
            vectors = step(vectors)
        return vectors
