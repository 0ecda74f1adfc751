"""Prove a model's scores before it takes traffic: against the manifest's goldens, and against itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rerank_server.errors import ServerError
from rerank_server.families.interface import Cut
from rerank_server.reranker import Reranker

PROBE_QUERY = "Which planet is known as the Red Planet?"
PROBE_DOCUMENTS = (
    "Mars.",
    "Venus is the second planet from the Sun.",
    "Mars, known for its reddish appearance, is often called the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot that is wider than the Earth.",
)
"""Of different lengths, so that they are padded when they share a batch, and near enough to share one."""

SELF_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""How far a score alone and in a batch may differ, relative to the score, or to one where it is smaller."""


@dataclass(frozen=True)
class Golden:
    """Scores that are known to be right, as callers see them: activated, in the order of the documents."""

    query: str
    documents: tuple[str, ...]
    scores: tuple[float, ...]
    tolerance: float
    """The largest absolute difference, in units of the score."""


@dataclass(frozen=True)
class Comparison:
    """One score beside what it must be."""

    what: str
    """For people: `golden 2, document 1`, both counted from one."""
    expected: float
    computed: float
    tolerance: float

    @property
    def deviation(self) -> float:
        """Return the absolute difference; infinite where either is no number."""
        difference = abs(self.expected - self.computed)
        return math.inf if math.isnan(difference) else difference

    @property
    def agrees(self) -> bool:
        """Say whether the difference is within the tolerance."""
        return self.deviation <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.what}: expected {self.expected:.6g}, got {self.computed:.6g} "
            f"(tolerance {self.tolerance:.3g})"
        )


@dataclass(frozen=True)
class Verdict:
    """What all comparisons together say."""

    checked: int
    max_deviation: float
    passed: bool
    message: str
    """A sentence for people, without the full stop."""


def judge(comparisons: Sequence[Comparison]) -> Verdict:
    """Sum comparisons up; the message shows the first that disagrees."""
    largest = max((comparison.deviation for comparison in comparisons), default=0.0)
    wrong = [comparison for comparison in comparisons if not comparison.agrees]
    if not wrong:
        message = f"{len(comparisons)} scores agree, the largest deviation is {largest:.2g}"
    elif len(wrong) == 1:
        message = str(wrong[0])
    else:
        message = f"{wrong[0]}, and {len(wrong) - 1} more of {len(comparisons)} scores are off"
    return Verdict(len(comparisons), largest, not wrong, message)


def compare_golden(number: int, golden: Golden, computed: Sequence[float]) -> list[Comparison]:
    """Set a golden's scores beside the computed ones; `number` counts goldens from one."""
    return [
        Comparison(f"golden {number}, document {place}", expected, score, golden.tolerance)
        for place, (expected, score) in enumerate(zip(golden.scores, computed, strict=True), 1)
    ]


def compare_with_itself(alone: Sequence[float], together: Sequence[float], dtype: str) -> list[Comparison]:
    """Set scores of documents by themselves beside their scores in one padded batch."""
    return [
        Comparison(
            f"self-check, document {place} in a batch against itself alone",
            expected,
            score,
            SELF_TOLERANCE[dtype] * max(1.0, abs(expected)),
        )
        for place, (expected, score) in enumerate(zip(alone, together, strict=True), 1)
    ]


async def verify(reranker: Reranker, goldens: Sequence[Golden] = ()) -> Verdict:
    """Score what is known, and say whether the model may take traffic.

    The self-check always runs: padding must not change a score. A golden that cannot be scored, or whose
    scores are not one for each document, fails the verification.
    """
    comparisons: list[Comparison] = []
    try:
        for number, golden in enumerate(goldens, 1):
            if len(golden.scores) != len(golden.documents):
                return _failed(
                    comparisons,
                    f"golden {number} has {len(golden.documents)} documents and {len(golden.scores)} scores: "
                    "give one score for each document",
                )
            where = f"golden {number}"
            scores = await reranker.score(golden.query, golden.documents)
            comparisons += compare_golden(number, golden, scores.values)
        where = "self-check"
        comparisons += await _check_itself(reranker)
    except ServerError as error:
        return _failed(comparisons, f"{where}: {str(error).removesuffix('.')}")
    return judge(comparisons)


async def _check_itself(reranker: Reranker) -> list[Comparison]:
    cut = Cut("document")
    alone = [
        float((await reranker.raw_scores(PROBE_QUERY, [document], cut)).values[0])
        for document in PROBE_DOCUMENTS
    ]
    together = (await reranker.raw_scores(PROBE_QUERY, PROBE_DOCUMENTS, cut)).values.tolist()
    return compare_with_itself(alone, together, reranker.loaded.engine.dtype)


def _failed(comparisons: Sequence[Comparison], message: str) -> Verdict:
    return Verdict(len(comparisons), judge(comparisons).max_deviation, False, message)
