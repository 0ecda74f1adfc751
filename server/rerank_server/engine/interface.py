"""What an engine is: rows of token ids in, one fp32 vector a row out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]
"""[rows, width] as an engine returns them; [documents] where they are scores."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence for the model, special tokens included, without padding."""

    ids: Sequence[int]
    type_ids: Sequence[int] | None = None
    """As long as `ids`; None where the model knows no segments."""


class Engine(Protocol):
    """Runs rows through one model. Only one thread at a time may call `run`."""

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

    def run(self, rows: Sequence[Row]) -> Vectors:
        """Return one vector a row, [rows, width], in the order of `rows`, of which there is at least one.

        Width 1 is a logit. Raises whatever the model raises; the caller decides whom that concerns.
        """
