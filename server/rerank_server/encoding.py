"""Texts to rows, on threads of their own, in slices that leave turns to other requests."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from rerank_server.admission import Sample, Size, sampled
from rerank_server.batching import SHUTTING_DOWN
from rerank_server.engine.interface import Outputs, Row, Vectors
from rerank_server.errors import ClosedError
from rerank_server.families.interface import Cut, Ranker

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

SLICE_DOCUMENTS = 128
SLICE_CHARACTERS = 200_000
"""How much is tokenized in one go, so that a large request leaves turns to the others."""
VECTORS_A_TOKEN = 2
"""Dimensions of an output that holds a vector for each token: comparing those takes milliseconds."""
MANY_ROWS = 256
"""From so many rows on whatever looks at each of them takes milliseconds."""


@dataclass(frozen=True)
class Encoded:
    """The texts of one query as rows, and what there is to know of them."""

    rows: list[Row]
    """The query's own first, then one a document."""
    distinct: list[Row]
    """Those that differ."""
    places: list[int]
    """The place of each of `rows` among those."""
    tokens: int
    """Ids in `rows`."""
    distinct_tokens: int
    sample: Sample
    """What its documents say of how many tokens a character has."""


class Encoder:
    """One tokenizer thread for small requests and one for large ones.

    A single text is tokenized in one go, however long it is. One that is longer than a slice is therefore for
    the large requests' thread, even where so little of it is kept that the request is a small one.
    """

    def __init__(self, ranker: Ranker, max_length: int) -> None:
        """`max_length` is in tokens: no row is longer."""
        self._ranker = ranker
        self._max_length = max_length
        self._closed = False
        self._threads = {
            size: ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"tokenizer-{size}") for size in Size
        }

    async def encode(
        self, query: str, documents: Sequence[str], cut: Cut, instruction: str | None, size: Size
    ) -> Encoded:
        """Return the texts as rows. Raises `InputError` as the ranker does, `ClosedError` after `close`.

        A caller that is cancelled gives its thread back after the slice that is being tokenized.
        """
        if max(map(len, (query, instruction or "", *documents))) > SLICE_CHARACTERS:
            size = Size.LARGE
        encoded = await self._on_thread(size, self._ranker.encode_query, query, instruction)
        rows: list[Row] = []
        for start, end in slices(documents):
            rows += await self._on_thread(
                size, self._ranker.encode_documents, encoded, documents[start:end], cut, start
            )
        whole_below = _least(self._max_length, cut.max_document_tokens, cut.max_row_tokens)
        if len(rows) < MANY_ROWS:
            return _summed_up(query, documents, encoded.rows, rows, whole_below)
        return await self._on_thread(size, _summed_up, query, documents, encoded.rows, rows, whole_below)

    async def compare(self, outputs: Outputs, rows: Sequence[Row], size: Size) -> Vectors:
        """Return what the ranker makes of the engine's outputs, on a thread where that is work.

        Raises `ClosedError` after `close`.
        """
        if len(outputs) < MANY_ROWS and (not outputs or np.ndim(outputs[0]) < VECTORS_A_TOKEN):
            return self._ranker.scores(outputs, rows)
        return await self._on_thread(size, self._ranker.scores, outputs, rows)

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        self._closed = True
        for thread in self._threads.values():
            thread.shutdown()

    async def _on_thread(
        self,
        size: Size,
        work: Callable[Arguments, Result],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Result:
        try:
            future = self._threads[size].submit(work, *arguments, **named)
        except RuntimeError as error:
            if self._closed:
                raise ClosedError(SHUTTING_DOWN) from error
            raise
        return await asyncio.wrap_future(future)


def _least(bound: int, *others: int | None) -> int:
    return min([bound, *(other for other in others if other is not None)])


def _summed_up(
    query: str, documents: Sequence[str], own: Sequence[Row], rows: Sequence[Row], whole_below: int
) -> Encoded:
    lengths = [len(row.ids) for row in rows]
    every = [*own, *rows]
    distinct, places = distinct_rows(every)
    return Encoded(
        rows=every,
        distinct=distinct,
        places=places,
        tokens=sum(lengths) + sum(len(row.ids) for row in own),
        distinct_tokens=sum(len(row.ids) for row in distinct),
        sample=sampled(query, documents, lengths, whole_below),
    )


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


def distinct_rows(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Return the rows that differ, and for each given row its place among them.

    A row that comes twice is run once: retrieval often finds a passage twice, and two runs in different
    batches may differ in the last bit, which would order equal documents by chance.
    """
    looks = [_look(row) for row in rows]
    alike = Counter(looks)
    places: dict[object, int] = {}
    distinct: list[Row] = []
    of_each: list[int] = []
    for row, look in zip(rows, looks, strict=True):
        key = look if alike[look] == 1 else (tuple(row.ids), tuple(row.type_ids or ()), row.unattended)
        place = places.setdefault(key, len(distinct))
        if place == len(distinct):
            distinct.append(row)
        of_each.append(place)
    return distinct, of_each


def _look(row: Row) -> tuple[int, ...]:
    """Return what equal rows have in common and most others do not, without a look at every id."""
    ids, length = row.ids, len(row.ids)
    return (
        length,
        *(ids[length * step // 8] for step in range(8)),
        ids[-2 % length],
        ids[-1],
    )
