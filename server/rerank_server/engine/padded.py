"""The engine that runs every transformers model: rows of similar length, padded to the longest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from rerank_server.engine.batches import split
from rerank_server.engine.heads import Head, Inputs
from rerank_server.engine.interface import Outputs, Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PaddedEngine:
    """Runs rows through a transformers model in groups of similar length, under a budget of padded tokens."""

    name = "padded"

    def __init__(self, model: "PreTrainedModel", head: Head, *, pad_id: int, max_tokens: int) -> None:
        """`model` is in eval mode and stays on its device; `max_tokens` bounds rows x longest of a group."""
        self._model = model
        self._head = head
        self._pad_id = pad_id
        self._max_tokens = max_tokens

    @property
    def device(self) -> str:
        """The device as torch writes it."""
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        """The type of the encoder's weights, without `torch.`."""
        return str(self._model.base_model.dtype).removeprefix("torch.")

    def positions(self, lengths: Sequence[int]) -> int:
        """Return how many positions rows of these lengths take, padding included."""
        groups = split(lengths, self._max_tokens)
        return sum(len(group) * lengths[group[0]] for group in groups)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> Outputs:
        """Return one fp32 vector a row, [width], in the order of `rows`."""
        groups = split([len(row.ids) for row in rows], self._max_tokens)
        vectors = torch.cat([self._run_group([rows[index] for index in group]) for group in groups])
        ordered = torch.empty_like(vectors)
        ordered[[index for group in groups for index in group]] = vectors
        return list(ordered.float().cpu().numpy())

    def _run_group(self, rows: Sequence[Row]) -> torch.Tensor:
        return self._head(self._model, self._pad(rows))

    def _pad(self, rows: Sequence[Row]) -> Inputs:
        shape = (len(rows), max(len(row.ids) for row in rows))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        type_ids = None if rows[0].type_ids is None else np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = row.ids
            mask[place, : len(row.ids)] = 1
            if type_ids is not None and row.type_ids is not None:
                type_ids[place, : len(row.ids)] = row.type_ids
        return Inputs(
            self._tensor(ids), self._tensor(mask), None if type_ids is None else self._tensor(type_ids)
        )

    def _tensor(self, values: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._model.device)
