"""The request path: a query and documents in, scores out."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from rerank_server.batching import SHUTTING_DOWN, Batcher, Observe
from rerank_server.engine.interface import Row, Vectors
from rerank_server.errors import ClosedError, ComputeError, InputError
from rerank_server.families.interface import Cut, Truncate
from rerank_server.families.scales import Scale, logistic
from rerank_server.load import Activation, LoadedModel
from rerank_server.observation import note_step

Result = TypeVar("Result")

SLICE_DOCUMENTS = 128
SLICE_CHARACTERS = 200_000
"""How much is tokenized in one go, so that a large request leaves turns to the small ones."""


@dataclass(frozen=True)
class Scores:
    """The scores of one request's documents."""

    values: tuple[float, ...]
    """Activated, in the order of the documents."""
    order: tuple[int, ...]
    """Indices of the documents by raw score, best first, ties by index."""
    tokens: int
    """Every token id that the model ran for this request, special tokens included, padding not."""


@dataclass(frozen=True)
class RawScores:
    """What the model itself said of one request's documents."""

    values: Vectors
    """Logits or similarities, fp32, [documents]."""
    tokens: int


class Reranker:
    """A loaded model at work: tokenization on one thread, the model on another, callers on the event loop."""

    def __init__(self, loaded: LoadedModel, *, observe: Observe | None = None) -> None:
        """Start the threads. `observe` is called on the model's thread after every batch."""
        self.loaded = loaded
        self._batcher = Batcher(loaded.engine, batch_tokens=loaded.batch_tokens, observe=observe)
        self._tokenizer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")
        self._closed = False

    @property
    def queued_tokens(self) -> int:
        """Return the tokens that wait for a batch."""
        return self._batcher.queued_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Return the tokens per busy second over the last busy minute; None before the first batch."""
        return self._batcher.tokens_per_second

    async def score(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: Truncate | None = None,
        max_document_tokens: int | None = None,
        activation: Activation | None = None,
        instruction: str | None = None,
    ) -> Scores:
        """Score every document against the query.

        `truncate` None does as the manifest says; `max_document_tokens` cuts each document to that many of
        its own tokens first; `activation` and `instruction` stand in for the manifest's. Raises `InputError`
        where the request cannot be scored as it is, `ComputeError` where the model fails on it, `ClosedError`
        after `close`.
        """
        if max_document_tokens is not None and max_document_tokens < 1:
            raise InputError(
                f"`max_document_tokens` is {max_document_tokens}: it must be at least 1.",
                "max_document_tokens",
            )
        cut = Cut(truncate or self.loaded.options.truncate, max_document_tokens)
        raw = await self.raw_scores(query, documents, cut, instruction)
        shown = activate(raw.values, activation or self.loaded.options.activation, self.loaded.scale)
        return Scores(
            values=tuple(shown.tolist()),
            order=best_first(raw.values),
            tokens=raw.tokens,
        )

    async def raw_scores(
        self, query: str, documents: Sequence[str], cut: Cut, instruction: str | None = None
    ) -> RawScores:
        """Return the scores before activation and sorting. Raises as `score` does."""
        if not documents:
            return RawScores(np.empty(0, dtype=np.float32), 0)
        if instruction is not None and not self.loaded.ranker.takes_instruction:
            raise InputError(
                f"`instruction` is set, and models of the family {self.loaded.family} take none: leave it "
                "out.",
                "instruction",
            )
        began = time.monotonic()
        rows = await self._encode(query, documents, cut, instruction)
        note_step("tokenize", began, time.monotonic())
        distinct, places = distinct_rows(rows)
        vectors = await self._batcher.run(distinct)
        values = self.loaded.ranker.scores([vectors[place] for place in places], rows)
        _require_finite(values)
        return RawScores(values, sum(len(row.ids) for row in rows))

    def close(self) -> None:
        """Take no more requests, finish those that are queued, and end the threads."""
        self._closed = True
        self._batcher.close()
        self._tokenizer.shutdown()

    async def _encode(
        self, query: str, documents: Sequence[str], cut: Cut, instruction: str | None
    ) -> list[Row]:
        ranker = self.loaded.ranker
        encoded = await self._on_tokenizer(partial(ranker.encode_query, query, instruction))
        rows = list(encoded.rows)
        for start, end in slices(documents):
            rows += await self._on_tokenizer(
                partial(ranker.encode_documents, encoded, documents[start:end], cut, start)
            )
        return rows

    async def _on_tokenizer(self, work: Callable[[], Result]) -> Result:
        if self._closed:
            raise ClosedError(SHUTTING_DOWN)
        return await asyncio.get_running_loop().run_in_executor(self._tokenizer, work)


def distinct_rows(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Return the rows that differ, and for each given row its place among them.

    A row that comes twice is run once: retrieval often finds a passage twice, and two runs in different
    batches may differ in the last bit, which would order equal documents by chance.
    """
    distinct: dict[tuple[tuple[int, ...], tuple[int, ...], int], Row] = {}
    keys = [(tuple(row.ids), tuple(row.type_ids or ()), row.unattended) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        distinct.setdefault(key, row)
    place = {key: number for number, key in enumerate(distinct)}
    return list(distinct.values()), [place[key] for key in keys]


def slices(
    documents: Sequence[str],
    max_documents: int = SLICE_DOCUMENTS,
    max_characters: int = SLICE_CHARACTERS,
) -> Iterator[tuple[int, int]]:
    """Cut a request into (start, end) of bounded work; a document above the bound is a slice of its own."""
    start = characters = 0
    for place, document in enumerate(documents):
        characters += len(document)
        if place > start and (place - start == max_documents or characters > max_characters):
            yield start, place
            start, characters = place, len(document)
    if start < len(documents):
        yield start, len(documents)


def activate(raw: Vectors, activation: Activation, scale: Scale = logistic) -> Vectors:
    """Map raw scores to what callers see, in fp32: themselves, or what the family's `scale` makes of them."""
    return raw if activation == "none" else scale(raw)


def best_first(raw: Vectors) -> tuple[int, ...]:
    """Return indices by descending raw score, ties by index; activation may round different scores to one."""
    return tuple(np.argsort(-raw, kind="stable").tolist())


def _require_finite(values: Vectors) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ComputeError(
            f"The model's score of documents[{wrong[0]}] is {values[wrong[0]]}, which is no number: "
            "try scoring.dtype float32; if that does not help, the weights are damaged."
        )
