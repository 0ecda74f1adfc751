"""The engines over transformers' own classes, all on one model that is loaded once."""

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_server.engine.failures import out_of_memory
from rerank_server.engine.readout import Classifier, NextToken, Readout, TokenVectors
from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Computed, Declined, ModelFacts, Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rerank_server.engine.heads import Head
    from rerank_server.engine.interface import Outputs, Row
    from rerank_server.engine.packable import Shape
    from rerank_server.engine.padded import PaddedEngine

log = logging.getLogger(__name__)

CAUSAL = "ForCausalLM"
UNUSED = ("pooler.",)
"""Weights that transformers' base classes have, and that reading the hidden states leaves aside."""


class Transformer:
    """A checkpoint as transformers runs it. Nothing is loaded before an engine asks for it."""

    def __init__(self, files: CheckpointFiles, plan: Plan, readout: Readout) -> None:
        self._files = files
        self._plan = plan
        self._readout = readout

    def padded(self) -> Computed:
        """Open the engine that takes every model. Raises `LoadError`."""
        return Computed(self._padded, "it runs every transformers model", self._facts)

    def packed(self) -> Computed:
        """Open the engine that runs rows one after another. Raises `LoadError` and `Declined`."""
        return self._without_padding(share=False, reason="rows run one after another, without padding")

    def causal(self) -> Computed:
        """Open the same for causal models, which compute a shared beginning once."""
        if not self._shape.causal:
            raise Declined(
                f"{self._files.architecture} attends to what comes later, so rows share no beginning"
            )
        if not self._reads_last_token:
            raise Declined("it reads the last token of rows only")
        return self._without_padding(
            share=True, reason="the beginning that rows of a request share is computed once, without padding"
        )

    def _without_padding(self, *, share: bool, reason: str) -> Computed:
        from rerank_server.engine.attention import Unpackable
        from rerank_server.engine.packed import PackedEngine
        from rerank_server.engine.selfcheck import compare

        engine = PackedEngine(
            self._model, self._head, self._shape, max_tokens=self._plan.batch_tokens, share=share
        )
        expected = self._expected
        if not all(np.isfinite(each).all() for each in expected):
            raise Declined("the padded engine's values are no finite numbers, so nothing can be compared")
        try:
            engine.install()
            agreement = compare(engine, expected, self._made_up)
            why = agreement.objection
            reason += f"; made-up rows differ from the padded engine's by {agreement.difference:.1g} at most"
        except Unpackable as error:
            why = str(error)
        except Exception as error:
            if out_of_memory(error):
                engine.remove()
                raise  # it says nothing of the engine: the load is tried again
            # Whatever a class of transformers trips over, padding does not change it.
            log.info("the engine %s failed on made-up rows", engine.name, exc_info=True)
            why = f"running made-up rows failed with {type(error).__name__}: {error}"
        if why is not None:
            engine.remove()
            raise Declined(why)
        return Computed(engine, reason, self._facts)

    @cached_property
    def _model(self) -> "PreTrainedModel":
        from rerank_server.engine.heads import OwnHead, head_for, keep_head_in_float32
        from rerank_server.families.pretrained import load_pretrained

        unused = () if isinstance(self._readout, Classifier | NextToken) else UNUSED
        model = load_pretrained(self._files, self._plan, self._model_class(), unused=unused)
        own_head = isinstance(self._readout, Classifier) and isinstance(
            head_for(model, self._readout), OwnHead
        )
        if own_head and self._plan.dtype != "float32":
            keep_head_in_float32(model)
        return model

    def _model_class(self) -> Any:
        """Return transformers' class for the readout. Raises `LoadError` where it knows none."""
        import transformers

        architecture = self._files.architecture
        if not isinstance(self._readout, Classifier | NextToken):
            return transformers.AutoModel
        if isinstance(self._readout, NextToken) and not architecture.endswith(CAUSAL):
            raise LoadError(f"{architecture} predicts no next token: only *{CAUSAL} models do.")
        found = getattr(transformers, architecture, None)
        if found is None:
            raise LoadError(
                f"transformers {transformers.__version__} has no {architecture}, and a checkpoint's own "
                "code is never run: use a model whose architecture transformers knows."
            )
        return found

    @cached_property
    def _head(self) -> "Head":
        from rerank_server.engine.heads import head_for

        try:
            return head_for(self._model, self._readout)
        except ValueError as error:
            raise LoadError(f"{self._files.root} cannot be scored: {error}.") from error

    @property
    def _reads_last_token(self) -> bool:
        from rerank_server.engine.heads import LastToken

        return isinstance(self._head, LastToken)

    @cached_property
    def _facts(self) -> ModelFacts:
        from rerank_server.families.pretrained import facts

        return facts(self._model)

    @cached_property
    def _shape(self) -> "Shape":
        from rerank_server.engine.attention import Unpackable
        from rerank_server.engine.packable import shape_of

        try:
            return shape_of(self._model)
        except Unpackable as why:
            raise Declined(str(why)) from why

    @cached_property
    def _padded(self) -> "PaddedEngine":
        from rerank_server.engine.padded import PaddedEngine

        return PaddedEngine(
            self._model, self._head, pad_id=self._facts.pad_id, max_tokens=self._plan.batch_tokens
        )

    @cached_property
    def _made_up(self) -> "list[Row]":
        from rerank_server.engine.selfcheck import made_up_rows

        return made_up_rows(
            self._model.config.get_text_config().vocab_size,
            positions=self._facts.positions,
            pad_id=self._facts.pad_id,
            type_ids=self._facts.takes_type_ids,
            window=self._shape.window,
            onlookers=isinstance(self._readout, TokenVectors),
        )

    @cached_property
    def _expected(self) -> "Outputs":
        """What the padded engine computes, while the model is as transformers built it."""
        return self._padded.run(self._made_up)
