"""The engines that run transformers' models without padding: `packed`, and `causal` with shared prefixes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rerank_server.engine.attention import NAME, Batch, Unpackable, current, register
from rerank_server.engine.heads import Head, OwnHead
from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.engine.layout import Layout, lay_out, passes
from rerank_server.engine.memory import given_back
from rerank_server.engine.packable import Shape, reduction
from rerank_server.engine.segments import Segments
from rerank_server.engine.staging import Arriving, Staging

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PASSES_IN_FLIGHT = 2
"""How many forward passes are begun before the first one's values are waited for."""


@dataclass(frozen=True)
class _Begun:
    """A forward pass that was begun: which rows, and what will come back."""

    places: Sequence[int]
    layout: Layout
    values: Arriving


class PackedEngine:
    """Runs rows one after another in one sequence, under a budget of tokens.

    With `share`, the leading ids that the rows of a request have in common are computed once; the model must
    then attend causally. Nothing of a forward pass is kept on the engine, so threads may run at once.
    """

    def __init__(
        self, model: "PreTrainedModel", head: Head, shape: Shape, *, max_tokens: int, share: bool = False
    ) -> None:
        """`model` is in eval mode and stays on its device; `max_tokens` bounds one forward pass."""
        self.name = "causal" if share else "packed"
        self._model = model
        self._head = head
        self._shape = shape
        self._share = share
        self._max_tokens = max_tokens
        self._staging = Staging(model.device)
        self._before: str | None = None
        self._hooks: list[Any] = []

    @property
    def device(self) -> str:
        """The device as torch writes it."""
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        """The type of the encoder's weights, without `torch.`."""
        return str(self._model.base_model.dtype).removeprefix("torch.")

    def positions(self, lengths: Sequence[int]) -> int:
        """Return the tokens: nothing is padded. A shared prefix counts with every row."""
        return sum(lengths)

    def install(self) -> None:
        """Make the model attend row by row. From now on no other engine may run it. Raises `Unpackable`."""
        register()
        self._before = self._model.config._attn_implementation  # noqa: SLF001  # there is no public reader
        self._model.set_attn_implementation(NAME)
        if isinstance(self._head, OwnHead):
            self._hooks.append(reduction(self._model))

    def remove(self) -> None:
        """Give the model back as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._before is not None:
            self._model.set_attn_implementation(self._before)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row]) -> Outputs:
        """Return an fp32 array a row, in the order of `rows`."""
        outputs: Outputs = [np.empty(0, dtype=np.float32)] * len(rows)
        begun: deque[_Begun] = deque()
        with given_back(self._model.device):
            for places in passes(rows, self._max_tokens, share=self._share):
                if len(begun) == PASSES_IN_FLIGHT:
                    self._deliver(begun.popleft(), outputs)
                begun.append(self._begin(rows, places))
            while begun:
                self._deliver(begun.popleft(), outputs)
        return outputs

    def _begin(self, rows: Sequence[Row], places: Sequence[int]) -> _Begun:
        skipped = None if isinstance(self._head, OwnHead) else self._head.skipped
        layout = lay_out(
            [rows[place] for place in places], self._shape.numbering, share=self._share, skipped=skipped
        )
        return _Begun(places, layout, self._staging.fetch(self._compute(layout)))

    def _compute(self, layout: Layout) -> Tensor:
        """Run one forward pass: [rows, width], or [tokens, width] for a head that reads each token."""
        arrays = [
            *(layout.ids, layout.positions, layout.type_ids),
            *(layout.starts, layout.lengths, layout.last),
            layout.query_edges(),
        ]
        if layout.scattered:
            arrays += [layout.key_edges(), layout.key_places()]
        ids, positions, type_ids, starts, lengths, last, *edges = self._staging.send(arrays)
        batch = Batch(
            layout.stretches,
            Segments(starts, lengths, last),
            query_edges=edges[0],
            key_edges=edges[1] if layout.scattered else edges[0],
            key_places=edges[2] if layout.scattered else None,
            longest_query=max(each.length for each in layout.stretches),
            longest_key=max(each.prefix_length + each.attended for each in layout.stretches),
        )
        named = {"input_ids": ids.long().unsqueeze(0), "position_ids": positions.long().unsqueeze(0)}
        if self._shape.takes_type_ids and (layout.typed or self._shape.has_segments):
            named["token_type_ids"] = type_ids.long().unsqueeze(0)
        token = current.set(batch)
        try:
            read = self._read(named, batch)
        finally:
            current.reset(token)
        if not batch.calls:
            raise Unpackable(f"{type(self._model).__name__} does not attend through transformers' interface")
        return read

    def _read(self, named: dict[str, Tensor], batch: Batch) -> Tensor:
        if isinstance(self._head, OwnHead):
            logits: Tensor = self._model(**named).logits
            return logits.float()
        base: nn.Module = self._model.base_model
        hidden: Tensor = base(**named, **self._shape.arguments).last_hidden_state
        return self._head(hidden[0], batch.rows)

    def _deliver(self, begun: _Begun, outputs: Outputs) -> None:
        values = begun.values.wait()
        per_token = not isinstance(self._head, OwnHead) and self._head.per_token
        arrays: Sequence[Vectors] = (
            np.split(values, np.cumsum(begun.layout.lengths)[:-1]) if per_token else list(values)
        )
        for place, array in zip(begun.places, arrays, strict=True):
            outputs[place] = array
