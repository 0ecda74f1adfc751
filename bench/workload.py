"""Requests as RAG systems send them: one question, passages of very different lengths."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QUERY_WORDS = (4, 12)
PASSAGE_WORDS_MEDIAN = 90
PASSAGE_WORDS_SIGMA = 0.7
PASSAGE_WORDS_MAX = 330
SMALL_WORDS = (2, 20)
LARGE_EVERY = 250
LARGE_DOCUMENTS = 60


@dataclass(frozen=True)
class Request:
    """A query and its documents."""

    query: str
    documents: tuple[str, ...]

    def body(self, model: str) -> bytes:
        """Return it in the default dialect, without the documents in the answer."""
        fields = {"model": model, "query": self.query, "documents": self.documents, "return_documents": False}
        return json.dumps(fields).encode()


def words(vocabulary: Path) -> list[str]:
    """Return the whole words of a WordPiece vocabulary file."""
    lines = vocabulary.read_text("utf-8").splitlines()
    return [line for line in lines if line.isascii() and line.isalpha() and len(line) > 2]


def make_requests(vocabulary: list[str], *, count: int, documents: int, seed: int = 1) -> list[Request]:
    """Return requests with `documents` passages of log-normal length each."""
    dice = random.Random(seed)

    def passage() -> str:
        length = int(dice.lognormvariate(0, PASSAGE_WORDS_SIGMA) * PASSAGE_WORDS_MEDIAN)
        return " ".join(dice.choices(vocabulary, k=max(3, min(length, PASSAGE_WORDS_MAX))))

    return [
        Request(_query(vocabulary, dice), tuple(passage() for _ in range(documents))) for _ in range(count)
    ]


def bodies(model: str, vocabulary: list[str], *, requests: int, documents: int, seed: int = 1) -> list[bytes]:
    """Return the bodies of such requests."""
    return [
        each.body(model) for each in make_requests(vocabulary, count=requests, documents=documents, seed=seed)
    ]


def parts(request: Request, documents: int) -> list[Request]:
    """Cut a request into requests of `documents` documents each: together they ask for the same work."""
    starts = range(0, len(request.documents), documents)
    return [Request(request.query, request.documents[start : start + documents]) for start in starts]


def small_mix(vocabulary: list[str], *, count: int, seed: int = 1) -> Iterator[Request]:
    """Yield short requests of 1 to 10 documents, and now and then one of 60 passages."""
    dice = random.Random(seed)
    large = make_requests(vocabulary, count=4, documents=LARGE_DOCUMENTS, seed=seed)
    for number in range(1, count + 1):
        if number % LARGE_EVERY == 0:
            yield large[number // LARGE_EVERY % len(large)]
            continue
        texts = (
            " ".join(dice.choices(vocabulary, k=dice.randint(*SMALL_WORDS)))
            for _ in range(dice.randint(1, 10))
        )
        yield Request(_query(vocabulary, dice), tuple(texts))


def body_of_size(model: str, vocabulary: list[str], size: int, *, seed: int = 1) -> bytes:
    """Return a request of about `size` bytes of real words in four documents, of which little is computed."""
    dice = random.Random(seed)
    documents = ["" for _ in range(4)]
    length = 0
    while length < size - 160:
        word = dice.choice(vocabulary)
        documents[length % 4] += word + " "
        length += len(word) + 1
    request = {"model": model, "query": "What is a panda?", "documents": documents, "max_doc_length": 16}
    return json.dumps({**request, "return_documents": False}).encode()


def _query(vocabulary: list[str], dice: random.Random) -> str:
    return " ".join(dice.choices(vocabulary, k=dice.randint(*QUERY_WORDS)))
