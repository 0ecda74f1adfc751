"""bf16 ranks real text as fp32 does, with a real model."""

import pydoc_data.topics
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rerank_server.families.interface import Cut
from rerank_server.load import ScoringOptions, load
from tests.server.ranking.conftest import minilm

__all__ = ["minilm"]

QUERIES = (
    "How are exceptions handled?",
    "What does a function return when nothing is returned?",
    "How does import find a module?",
)
SHORTEST, COUNT = 80, 60


def paragraphs() -> list[str]:
    """Return English prose that comes with Python: paragraphs of its language reference."""
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    prose = [" ".join(each.split()) for each in text.split("\n\n")]
    chosen = [each for each in prose if len(each) >= SHORTEST and each[0].isupper() and each.endswith(".")]
    return chosen[:: len(chosen) // COUNT][:COUNT]


def kendall_tau(some: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """Return the share of pairs in the same order minus that in opposite order."""
    first, second = np.triu_indices(len(some), 1)
    agreement = np.sign(some[first] - some[second]) * np.sign(others[first] - others[second])
    return float(agreement.mean())


@pytest.mark.parametrize("engine", ["packed", "padded"])
def test_bf16_ranks_paragraphs_as_fp32_does(engine: str, minilm: Path) -> None:
    documents = paragraphs()
    assert len(documents) == COUNT
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for dtype in ("float32", "bfloat16"):
        model = load(minilm, ScoringOptions(dtype=dtype), threads=1, engine=engine)  # type: ignore[arg-type]
        for query in QUERIES:
            encoded = model.ranker.encode_query(query)
            rows = [*encoded.rows, *model.ranker.encode_documents(encoded, documents, Cut("document"))]
            found.setdefault(dtype, []).append(model.ranker.scores(model.engine.run(rows), rows))
    taus = [kendall_tau(*both) for both in zip(found["float32"], found["bfloat16"], strict=True)]
    assert min(taus) >= 0.99, taus
