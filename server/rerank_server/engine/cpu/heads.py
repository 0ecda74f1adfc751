"""What is read out of the encoder, in fp32: classification heads, pooled vectors, a vector a token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.cpu.encoder import Packed
from rerank_server.engine.pooling import Pooled
from rerank_server.engine.readout import Step
from rerank_server.engine.segments import Segments


@dataclass(frozen=True)
class DenseTanhClassifier:
    """BERT's pooler and classifier, and RoBERTa's classification head: both are this, on the first token."""

    dense_weight: Tensor
    dense_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    def __call__(self, hidden: Tensor, batch: Packed) -> Tensor:
        """[rows, width] -> [rows, labels]."""
        pooled = torch.tanh(functional.linear(hidden, self.dense_weight, self.dense_bias))
        return functional.linear(pooled, self.out_weight, self.out_bias)


@dataclass(frozen=True)
class FirstTokenVector:
    """The first token's vector, then further steps."""

    steps: Sequence[Step]

    def __call__(self, hidden: Tensor, batch: Packed) -> Tensor:
        """[rows, width] -> [rows, other width]."""
        for step in self.steps:
            hidden = step(hidden)
        return hidden


@dataclass(frozen=True)
class PooledVectors:
    """Any pooling over each row's tokens, then further steps."""

    pooled: Pooled

    def __call__(self, hidden: Tensor, batch: Packed) -> Tensor:
        """[tokens, width] -> [rows, other width]."""
        return self.pooled(hidden, Segments.of(torch.tensor(batch.lengths)))


@dataclass(frozen=True)
class EveryToken:
    """A vector a token, after further steps."""

    steps: Sequence[Step]

    def __call__(self, hidden: Tensor, batch: Packed) -> Sequence[Tensor]:
        """[tokens, width] -> [tokens of the row, other width] for each row."""
        for step in self.steps:
            hidden = step(hidden)
        return torch.split(hidden, list(batch.lengths))
