"""ColBERT-like models: a vector a token, and the best match in the document for each token of the query."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import AddedToken

from rerank_api.score_scale import ScoreScale
from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.engine.readout import TokenVectors
from rerank_server.errors import InputError, LoadError
from rerank_server.families import own_code
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Cut, EncodedQuery, Fit, Opened, Plan
from rerank_server.families.late_interaction import (
    EXPANDED_LENGTH,
    LateInteraction,
    is_late_interaction,
    late_interaction,
    objection,
)
from rerank_server.families.lengths import choose_length
from rerank_server.families.scales import Scale, clipped, logistic, mean_of
from rerank_server.families.template import Template, single_template
from rerank_server.families.tokens import (
    TextTokenizer,
    document_names,
    document_rows,
    load_tokenizer,
    require_text,
)

MASKS = ("[MASK]", "<mask>")


class MultiVector:
    """ColBERT models of sentence-transformers, of PyLate and of Stanford's code."""

    name = "multi-vector"
    summary = (
        "late-interaction models (ColBERT, as sentence-transformers, PyLate or Stanford's code save them)"
    )

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Go by what the files declare."""
        if (foreign := own_code.objection(files)) is not None:
            return Fit(False, foreign)
        if not is_late_interaction(files):
            return Fit(False, "its files declare no token vectors")
        refused = objection(files)
        return Fit(refused is None, refused or "its files declare token vectors")

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load the encoder and the layers over its tokens."""
        from rerank_server.engine.pooling import normalize
        from rerank_server.families.sentence_steps import load_projection, load_step

        settings = late_interaction(files)
        tokens = load_tokenizer(files)
        _make_markers_whole(tokens, settings)
        steps = [load_step(module, plan.device) for module in settings.dense]
        if not files.modules:
            steps = [load_projection(files.transformer, plan.device)]
        if settings.normalized:
            steps.append(normalize)
        computed = open_engine(files, plan, TokenVectors(steps))
        facts = computed.facts
        document_length = choose_length(plan.max_length, files, facts.positions)
        if plan.max_length is None and settings.document_length is not None:
            document_length = min(settings.document_length, facts.positions or settings.document_length)
        template = single_template(
            tokens.backend,
            with_type_ids=tokens.with_type_ids and facts.takes_type_ids,
            filler=facts.pad_id,
        )
        ranker = LateInteractionRanker(
            tokens,
            template,
            settings,
            _token_ids(tokens, files, settings),
            query_length=facts.positions or choose_length(None, files, None),
            document_length=document_length,
        )
        return Opened(ranker, computed, document_length, _scale(settings), ScoreScale.MAX_SIM)


@dataclass(frozen=True)
class TokenIds:
    """The ids of tokens that mean something to the score."""

    expansion: int | None
    skipped: tuple[int, ...]


def _token_ids(tokens: TextTokenizer, files: CheckpointFiles, settings: LateInteraction) -> TokenIds:
    known = (tokens.backend.token_to_id(word) for word in settings.skipped)
    skipped = tuple(each for each in known if each is not None)
    if settings.expansion is None:
        return TokenIds(None, skipped)
    names = (settings.expansion.token,) if settings.expansion.token else _fillers(files)
    found = (tokens.backend.token_to_id(name) for name in names)
    expansion = next((each for each in found if each is not None), None)
    if expansion is None:
        raise LoadError(
            f"Queries are filled up with {' or '.join(names)}, which the tokenizer in {files.transformer} "
            "does not have: download the checkpoint again."
        )
    return TokenIds(expansion, skipped)


def _fillers(files: CheckpointFiles) -> tuple[str, ...]:
    """Return names of the tokenizer's mask token; a tokenizer without one ends its texts with another."""
    declared = [files.tokenizer_config.get(name) for name in ("mask_token", "eos_token")]
    named = [each.get("content") if isinstance(each, dict) else each for each in declared]
    mask, end = (name if isinstance(name, str) else None for name in named)
    return tuple(name for name in (mask, *MASKS, end) if name)


def _make_markers_whole(tokens: TextTokenizer, settings: LateInteraction) -> None:
    """Have the tokenizer find a marker in text as one token, as it was inserted in training.

    A marker that it does not have stays ordinary text.
    """
    for marker in filter(str.strip, settings.markers):
        for name in (marker, marker.split(None, 1)[0]):
            own = tokens.backend.token_to_id(name)
            if own is None:
                continue
            if tokens.backend.encode(name, add_special_tokens=False).ids != [own]:
                tokens.backend.add_special_tokens([AddedToken(name, normalized=False, special=True)])
            break


def _scale(settings: LateInteraction) -> Scale:
    if not settings.normalized:
        return logistic
    if settings.mean:
        return clipped
    return mean_of(settings.expansion.length if settings.expansion else EXPANDED_LENGTH)


class LateInteractionRanker:
    """Gives the query and each document a row of their own, and matches tokens."""

    takes_instruction = False

    def __init__(
        self,
        tokens: TextTokenizer,
        template: Template,
        settings: LateInteraction,
        ids: TokenIds,
        *,
        query_length: int,
        document_length: int,
    ) -> None:
        """`query_length` is what the model takes at most: a query is not cut to the length that is usual."""
        self.max_length = document_length
        self._query_length = query_length
        self._tokens = tokens
        self._template = template
        self._settings = settings
        self._ids = ids
        [prefix] = tokens.encode([settings.document_prefix], ["document_prefix"])
        self._prefix_tokens = len(prefix)

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
        """Return the query's row, filled up with extra tokens where the model wants them."""
        require_text(query, "query")
        [ids] = self._tokens.encode([self._settings.query_prefix + query], ["query"])
        room = self._query_length - self._template.overhead
        if len(ids) > room:
            raise InputError(
                f"`query` has {len(ids)} tokens, and {room} fit: the model takes {self._query_length} with "
                f"{self._template.overhead} special tokens. Shorten the query.",
                "query",
            )
        return EncodedQuery(ids, (self._expand(self._template.row(ids)),))

    def encode_documents(
        self, query: EncodedQuery, documents: Sequence[str], cut: Cut, first: int = 0
    ) -> list[Row]:
        """Return one row a document. The prefix is no part of a document's own tokens."""
        names = document_names(first, len(documents))
        for text, name in zip(documents, names, strict=True):
            require_text(text, name)
        ids = self._tokens.encode([self._settings.document_prefix + text for text in documents], names)
        if cut.max_document_tokens is not None:
            cut = replace(cut, max_document_tokens=cut.max_document_tokens + self._prefix_tokens)
        return document_rows(
            self._tokens, self._template, [], ids, cut=cut, max_length=self.max_length, first=first
        )

    def scores(self, outputs: Outputs, rows: Sequence[Row]) -> Vectors:
        """Sum, or average, over query tokens the largest dot product with a document's tokens, in fp32.

        `outputs` are [tokens, width], the query's first.
        """
        query = self._counted(outputs[0], rows[0], "query")
        documents = (
            self._counted(vectors, row, "document")
            for vectors, row in zip(outputs[1:], rows[1:], strict=True)
        )
        sums = [(query @ document.T).max(axis=1, initial=-np.inf).sum() for document in documents]
        scores = np.array(sums, dtype=np.float32)
        return scores / np.float32(len(query)) if self._settings.mean else scores

    def _counted(self, vectors: Vectors, row: Row, role: str) -> Vectors:
        if role not in self._settings.skipped_in or not self._ids.skipped:
            return vectors
        return vectors[~np.isin(row.ids, self._ids.skipped)]

    def _expand(self, row: Row) -> Row:
        expansion, extra = self._settings.expansion, self._ids.expansion
        if expansion is None or extra is None:
            return row
        missing = max(0, min(expansion.length, self._query_length) - len(row.ids))
        return Row(
            [*row.ids, *[extra] * missing],
            None if row.type_ids is None else [*row.type_ids, *[0] * missing],
            unattended=0 if expansion.attended else missing,
        )
