"""Where the rows of a batch lie in one flat tensor of hidden states."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segments:
    """The places of rows in [tokens, width]. All are [rows], integers, on the device of the hidden states."""

    starts: Tensor
    lengths: Tensor
    last: Tensor
    """The place of the token that stands for the row where a model reads one at its end."""

    @classmethod
    def of(cls, lengths: Tensor) -> "Segments":
        """Lay rows of these lengths one after another, each read at its last token."""
        ends = lengths.cumsum(0)
        return cls(ends - lengths, lengths, ends - 1)


def last_counted(ids: Sequence[int], skipped: int | None) -> int:
    """Return the place of the last id that is not `skipped`; zero where there is no other.

    This is where transformers' causal classifiers read, `skipped` being the padding token.
    """
    place = len(ids) - 1
    if skipped is None:
        return place
    while place > 0 and ids[place] == skipped:
        place -= 1
    return place


def places_in_padded(lengths: Sequence[int], longest: int) -> Tensor:
    """Return where the tokens of right-padded rows lie in [rows x longest]: [tokens]."""
    return torch.cat(
        [torch.arange(row * longest, row * longest + length) for row, length in enumerate(lengths)]
    )
