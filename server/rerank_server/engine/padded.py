"""The engine that runs every transformers model: rows of similar length, padded to the longest."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rerank_server.engine.batches import split
from rerank_server.engine.heads import Head, OwnHead
from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.engine.memory import given_back
from rerank_server.engine.segments import Segments, last_counted, places_in_padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Inputs:
    """One group of rows, padded on the right. All are [rows, longest] and int64."""

    ids: Tensor
    mask: Tensor
    """1 for a token, 0 for padding."""
    type_ids: Tensor | None

    def arguments(self) -> dict[str, Tensor]:
        """Name them as transformers' models do."""
        named = {"input_ids": self.ids, "attention_mask": self.mask}
        if self.type_ids is not None:
            named["token_type_ids"] = self.type_ids
        return named


class PaddedEngine:
    """Runs rows through a transformers model in groups of similar length, under a budget of padded tokens."""

    name = "padded"

    def __init__(self, model: "PreTrainedModel", head: Head, *, pad_id: int, max_tokens: int) -> None:
        """`model` is in eval mode and stays on its device; `max_tokens` bounds rows x longest of a group."""
        self._model = model
        self._head = head
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        # A causal model would otherwise store keys and values for tokens that never come.
        takes_cache = "use_cache" in inspect.signature(model.base_model.forward).parameters
        self._without_cache = {"use_cache": False} if takes_cache else {}

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
        """Return an fp32 array a row, in the order of `rows`."""
        outputs: Outputs = [np.empty(0, dtype=np.float32)] * len(rows)
        with given_back(self._model.device):
            for group in split([len(row.ids) for row in rows], self._max_tokens):
                arrays = self._run_group([rows[index] for index in group])
                for index, array in zip(group, arrays, strict=True):
                    outputs[index] = array
        return outputs

    def _run_group(self, rows: Sequence[Row]) -> Sequence[Vectors]:
        inputs = self._pad(rows)
        if isinstance(self._head, OwnHead):
            return list(self._model(**inputs.arguments()).logits.float().cpu().numpy())
        hidden: Tensor = self._model.base_model(**inputs.arguments(), **self._without_cache).last_hidden_state
        lengths = [len(row.ids) for row in rows]
        places = places_in_padded(lengths, hidden.shape[1]).to(hidden.device)
        read = self._head(hidden.flatten(0, 1)[places], self._segments(rows)).float().cpu().numpy()
        return np.split(read, np.cumsum(lengths)[:-1]) if self._head.per_token else list(read)

    def _segments(self, rows: Sequence[Row]) -> Segments:
        lengths = torch.tensor([len(row.ids) for row in rows])
        starts = lengths.cumsum(0) - lengths
        skipped = None if isinstance(self._head, OwnHead) else self._head.skipped
        last = starts + torch.tensor([last_counted(row.ids, skipped) for row in rows])
        return Segments(*(each.to(self._model.device) for each in (starts, lengths, last)))

    def _pad(self, rows: Sequence[Row]) -> Inputs:
        shape = (len(rows), max(len(row.ids) for row in rows))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        type_ids = None if rows[0].type_ids is None else np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = row.ids
            mask[place, : len(row.ids) - row.unattended] = 1
            if type_ids is not None and row.type_ids is not None:
                type_ids[place, : len(row.ids)] = row.type_ids
        return Inputs(
            self._tensor(ids), self._tensor(mask), None if type_ids is None else self._tensor(type_ids)
        )

    def _tensor(self, values: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)
