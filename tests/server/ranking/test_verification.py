"""Scores are proven before a model takes traffic."""

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from rerank_server.engine.interface import Outputs, Row
from rerank_server.families.interface import Cut
from rerank_server.load import LoadedModel
from rerank_server.reranker import Reranker
from rerank_server.verification import (
    PROBE_DOCUMENTS,
    PROBE_QUERY,
    Comparison,
    Golden,
    Verdict,
    judge,
    verify,
)

DOCUMENTS = ("mars is the red planet", "venus")


@pytest.fixture(scope="module")
def reranker(loaded_bert: LoadedModel) -> Iterator[Reranker]:
    """Put the random BERT to work."""
    reranker = Reranker(loaded_bert)
    yield reranker
    reranker.close()


def true_scores(reranker: Reranker) -> tuple[float, ...]:
    """Score the golden's documents."""
    return asyncio.run(reranker.score("red planet", DOCUMENTS)).values


def test_a_model_that_gives_its_goldens_passes(reranker: Reranker) -> None:
    golden = Golden("red planet", DOCUMENTS, true_scores(reranker), 1e-4)
    verdict = asyncio.run(verify(reranker, [golden]))
    assert verdict.passed
    assert verdict.checked == len(DOCUMENTS) + len(PROBE_DOCUMENTS)
    assert 0 <= verdict.max_deviation <= 1e-4
    assert verdict.message.startswith("6 scores agree, the largest deviation is ")


def test_a_golden_that_differs_is_named_with_both_scores(reranker: Reranker) -> None:
    first, second = true_scores(reranker)
    right = Golden("red planet", DOCUMENTS, (first, second), 0.01)
    wrong = Golden("red planet", DOCUMENTS, (first, second + 6.5), 0.01)
    verdict = asyncio.run(verify(reranker, [right, wrong]))
    assert not verdict.passed
    assert verdict.message == (
        f"golden 2, document 2: expected {second + 6.5:.6g}, got {second:.6g} (tolerance 0.01)"
    )
    assert verdict.max_deviation == pytest.approx(6.5, abs=1e-3)


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        pytest.param(
            Golden("red", ("a", "b"), (1.0,), 0.1),
            "golden 1 has 2 documents and 1 scores: give one score for each document",
            id="a score too few",
        ),
        pytest.param(
            Golden("red " * 200, ("a",), (1.0,), 0.1),
            "golden 1: `query` has 200 tokens, and at most 92 fit",
            id="a query that cannot be scored",
        ),
    ],
)
def test_a_golden_that_cannot_be_scored_fails_with_the_reason(
    golden: Golden, words: str, reranker: Reranker
) -> None:
    verdict = asyncio.run(verify(reranker, [golden]))
    assert not verdict.passed
    assert verdict.message.startswith(words)


class PaddingMatters:
    """A real engine with a fault that servers have had: rows that are padded get other scores."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Add a little to each row that is shorter than the longest."""
        outputs: Outputs = self._engine.run(rows)
        longest = max(len(row.ids) for row in rows)
        return [
            output + np.float32(0.01) if len(row.ids) < longest else output
            for row, output in zip(rows, outputs, strict=True)
        ]


def test_an_engine_whose_padding_changes_scores_is_found_without_any_golden(loaded_bert: LoadedModel) -> None:
    reranker = Reranker(dataclasses.replace(loaded_bert, engine=PaddingMatters(loaded_bert.engine)))
    verdict = asyncio.run(verify(reranker))
    reranker.close()
    assert not verdict.passed
    assert verdict.message.startswith("self-check, document 1 in a batch against itself alone: expected ")
    assert verdict.max_deviation == pytest.approx(0.01, abs=1e-4)


def test_the_self_check_pads_its_batch(loaded_minilm: LoadedModel) -> None:
    query = loaded_minilm.ranker.encode_query(PROBE_QUERY)
    rows = [*query.rows, *loaded_minilm.ranker.encode_documents(query, PROBE_DOCUMENTS, Cut("document"))]
    lengths = [len(row.ids) for row in rows]
    assert loaded_minilm.engine.positions(lengths) > sum(lengths)


@pytest.mark.parametrize(
    ("comparisons", "verdict"),
    [
        pytest.param([], Verdict(0, 0.0, True, "0 scores agree, the largest deviation is 0"), id="nothing"),
        pytest.param(
            [Comparison("golden 2, document 1", 9.688, 3.1, 0.01)],
            Verdict(1, 6.588, False, "golden 2, document 1: expected 9.688, got 3.1 (tolerance 0.01)"),
            id="one is off",
        ),
        pytest.param(
            [Comparison("a", 1.0, 2.0, 0.1), Comparison("b", 1.0, 1.0, 0.1), Comparison("c", 1.0, 4.0, 0.1)],
            Verdict(3, 3.0, False, "a: expected 1, got 2 (tolerance 0.1), and 1 more of 3 scores are off"),
            id="two are off",
        ),
        pytest.param(
            [Comparison("a", 1.0, float("nan"), 0.1)],
            Verdict(1, float("inf"), False, "a: expected 1, got nan (tolerance 0.1)"),
            id="no number is no score",
        ),
    ],
)
def test_comparisons_are_summed_up_in_a_sentence(comparisons: list[Comparison], verdict: Verdict) -> None:
    summed = judge(comparisons)
    assert summed == dataclasses.replace(verdict, max_deviation=summed.max_deviation)
    assert summed.max_deviation == pytest.approx(verdict.max_deviation)
