"""Texts to rows, on threads of their own, in slices that leave turns to other requests."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rerank_server.admission import Size
from rerank_server.engine.interface import Row
from rerank_server.families.interface import Cut, Ranker

SLICE_DOCUMENTS = 128
SLICE_CHARACTERS = 200_000
"""How much is tokenized in one go, so that a large request leaves turns to the others."""


class Encoder:
    """One tokenizer thread for small requests and one for large ones.

    A single document is tokenized in one go, however long it is: it must not hold up small requests.
    """

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._threads = {
            size: ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"tokenizer-{size}") for size in Size
        }

    async def encode(
        self, query: str, documents: Sequence[str], cut: Cut, instruction: str | None, size: Size
    ) -> tuple[list[Row], list[Row]]:
        """Return the query's own rows and one row a document; raises `InputError` as the ranker does.

        A caller that is cancelled gives its thread back after the slice that is being tokenized.
        """
        loop, thread = asyncio.get_running_loop(), self._threads[size]
        encoded = await loop.run_in_executor(thread, self._ranker.encode_query, query, instruction)
        rows: list[Row] = []
        for start, end in slices(documents):
            rows += await loop.run_in_executor(
                thread,
                partial(self._ranker.encode_documents, encoded, documents[start:end], cut, start),
            )
        return list(encoded.rows), rows

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads.values():
            thread.shutdown()


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
