"""Sentence-embedding models: a row for the query, a row a document, and the cosine between them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rerank_api.score_scale import ScoreScale
from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.engine.readout import PooledVector
from rerank_server.errors import InputError
from rerank_server.families import own_code, sentence_modules
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Cut, EncodedQuery, Fit, Opened, Plan
from rerank_server.families.lengths import choose_length
from rerank_server.families.scales import clipped, logistic
from rerank_server.families.sentence_modules import Prompts
from rerank_server.families.template import Template, single_template
from rerank_server.families.tokens import (
    TextTokenizer,
    document_names,
    document_rows,
    load_tokenizer,
    require_text,
)

SHORTEST = 1e-12
"""A vector shorter than this has no direction; torch's and sentence-transformers' cosine divide by it."""


class EmbeddingFamily:
    """Checkpoints of sentence-transformers: modules.json with Transformer, Pooling and plain steps."""

    name = "embedding"
    summary = (
        "sentence-embedding models (modules.json with Transformer and Pooling, "
        f"then {', '.join(sentence_modules.STEPS)} or nothing)"
    )

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by modules.json. A bare encoder fits, mean-pooled, only where the manifest names this family."""
        if files.config.get("is_encoder_decoder"):
            return Fit(False, "it is an encoder-decoder model")
        if (foreign := own_code.objection(files)) is not None:
            return Fit(False, foreign)
        if not files.modules:
            return Fit(named, "there is no modules.json")
        objection = sentence_modules.objection(files)
        return Fit(objection is None, objection or "modules.json describes a sentence embedding")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load the encoder and the modules after it."""
        from rerank_server.families.sentence_steps import load_step

        tokens = load_tokenizer(files)
        steps = [load_step(module, plan.device) for module in files.modules[2:]]
        computed = open_engine(files, plan, PooledVector(sentence_modules.pooling_modes(files), steps))
        facts = computed.facts
        ranker = BiEncoder(
            tokens,
            single_template(
                tokens.backend,
                with_type_ids=tokens.with_type_ids and facts.takes_type_ids,
                filler=facts.pad_id,
            ),
            choose_length(plan.max_length, files, facts.positions),
            sentence_modules.prompts(files),
            sentence_modules.similarity(files),
        )
        if sentence_modules.similarity(files) == "cosine":
            return Opened(ranker, computed, ranker.max_length, clipped, ScoreScale.COSINE)
        return Opened(ranker, computed, ranker.max_length, logistic, ScoreScale.DOT_PRODUCT)


class BiEncoder:
    """Gives the query and each document a row of their own."""

    takes_instruction = False

    def __init__(
        self, tokens: TextTokenizer, template: Template, max_length: int, prompts: Prompts, similarity: str
    ) -> None:
        self.max_length = max_length
        self._tokens = tokens
        self._template = template
        self._prompts = prompts
        self._similarity = similarity
        [prompt] = tokens.encode([prompts.document], ["prompts.document"])
        self._prompt_tokens = len(prompt)

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
        """Return the query's row, which must fit whole."""
        require_text(query, "query")
        [ids] = self._tokens.encode([self._prompts.query + query], ["query"])
        room = self.max_length - self._template.overhead
        if len(ids) > room:
            raise InputError(
                f"`query` has {len(ids)} tokens, and {room} fit: the model takes {self.max_length} with "
                f"{self._template.overhead} special tokens. Shorten the query.",
                "query",
            )
        return EncodedQuery(ids, (self._template.row(ids),))

    def encode_documents(
        self, query: EncodedQuery, documents: Sequence[str], cut: Cut, first: int = 0
    ) -> list[Row]:
        """Return one row a document. The prompt of the checkpoint is no part of a document's own tokens."""
        names = document_names(first, len(documents))
        if self._prompts.document:
            for text, name in zip(documents, names, strict=True):
                require_text(text, name)
            documents = [self._prompts.document + text for text in documents]
        if cut.max_document_tokens is not None:
            cut = replace(cut, max_document_tokens=cut.max_document_tokens + self._prompt_tokens)
        ids = self._tokens.encode(documents, names)
        return document_rows(
            self._tokens, self._template, [], ids, cut=cut, max_length=self.max_length, first=first
        )

    def scores(self, outputs: Outputs, rows: Sequence[Row] = ()) -> Vectors:
        """Compare row 0, the query, with each other row: [1 + documents, width] -> [documents]."""
        vectors = np.asarray(outputs)
        if self._similarity == "cosine":
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
        scores: Vectors = vectors[1:] @ vectors[0]
        return scores
