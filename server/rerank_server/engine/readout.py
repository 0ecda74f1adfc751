"""What is read out of a model for each row: the one thing that a family asks of an engine.

A family names its readout; which engine computes it is decided by `rerank_server.families.engines`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Step: TypeAlias = "Callable[[Tensor], Tensor]"
"""[rows, width] -> [rows, other width], fp32."""


@dataclass(frozen=True)
class Classifier:
    """The checkpoint's own classification head, of `*ForSequenceClassification`: [rows, labels]."""


@dataclass(frozen=True)
class PooledVector:
    """The last hidden states, pooled, then further steps, in fp32: [rows, width]."""

    modes: tuple[str, ...]
    """Names of `rerank_server.engine.pooling.POOLS`; several are put side by side."""
    steps: "Sequence[Step]" = ()


@dataclass(frozen=True)
class TokenVectors:
    """One vector for each token of a row, after further steps, in fp32: [tokens, width] a row."""

    steps: "Sequence[Step]" = ()


@dataclass(frozen=True)
class NextToken:
    """Logits of a causal model's head for these token ids at the last position of a row: [rows, ids]."""

    ids: tuple[int, ...]


Readout: TypeAlias = Classifier | PooledVector | TokenVectors | NextToken
