"""What an engine is: rows of token ids in, fp32 vectors out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]
"""[rows, width], one vector a row; [tokens, width], one row's token vectors; [documents], scores."""

Outputs: TypeAlias = list[Vectors]
"""What an engine returns: an array a row, [width] or [tokens, width]."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence for the model, special tokens included, without padding."""

    ids: Sequence[int]
    type_ids: Sequence[int] | None = None
    """As long as `ids`; None where the model knows no segments."""
    shared: int = 0
    """How many leading ids the rows of one request have in common: a causal model computes them once."""
    unattended: int = 0
    """How many trailing ids no token attends to, not even they themselves: they only look on."""


class Engine(Protocol):
    """Runs rows through one model. Several threads may call `run` at once."""

    @property
    def name(self) -> str:
        """Say how it computes, for people: `padded`."""

    @property
    def device(self) -> str:
        """The device as torch writes it: `cpu`, `cuda:0`."""

    @property
    def dtype(self) -> str:
        """The type of weights and activations before the head: `float32`, `bfloat16` or `float16`."""

    def positions(self, lengths: Sequence[int]) -> int:
        """Return how many positions `run` computes for rows of these lengths, padding included."""

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Return an array a row, in the order of `rows`, of which there is at least one.

        Its shape is the readout's (`rerank_server.engine.readout`). Raises whatever the model
        raises; the caller decides whom that concerns.
        """
