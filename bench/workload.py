"""Requests as RAG systems send them: one question, passages of very different lengths."""

import json
import random
from pathlib import Path

QUERY_WORDS = (4, 12)
PASSAGE_WORDS_MEDIAN = 90
PASSAGE_WORDS_SIGMA = 0.7
PASSAGE_WORDS_MAX = 330


def words(vocabulary: Path) -> list[str]:
    """Return the whole words of a WordPiece vocabulary file."""
    lines = vocabulary.read_text("utf-8").splitlines()
    return [line for line in lines if line.isascii() and line.isalpha() and len(line) > 2]


def bodies(model: str, vocabulary: list[str], *, requests: int, documents: int, seed: int = 1) -> list[bytes]:
    """Return request bodies with `documents` passages of log-normal length each."""
    dice = random.Random(seed)

    def passage() -> str:
        length = int(dice.lognormvariate(0, PASSAGE_WORDS_SIGMA) * PASSAGE_WORDS_MEDIAN)
        return " ".join(dice.choices(vocabulary, k=max(3, min(length, PASSAGE_WORDS_MAX))))

    return [
        json.dumps(
            {
                "model": model,
                "query": " ".join(dice.choices(vocabulary, k=dice.randint(*QUERY_WORDS))),
                "documents": [passage() for _ in range(documents)],
                "return_documents": False,
            }
        ).encode()
        for _ in range(requests)
    ]


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
