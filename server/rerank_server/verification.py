"""Prove a model's scores before it takes traffic and when asked: against goldens, and against itself."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rerank_server.errors import ComputeError, InputError
from rerank_server.families.interface import Cut
from rerank_server.families.scales import logistic
from rerank_server.goldens import Golden
from rerank_server.reranker import Reranker

SELF_CHECK: Final = "self-check"
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
class Place:
    """Which score is compared."""

    origin: str
    """`MANIFEST`, `PUBLISHED` or `SELF_CHECK`."""
    source: str
    """Where the expected score comes from, in words."""
    golden: str
    """`golden 2`, counted from one, or the self-check."""
    query: str
    index: int
    """The document's place, from zero."""
    document: str

    def __str__(self) -> str:
        if self.origin == SELF_CHECK:
            return f"{SELF_CHECK}, document {self.index + 1} in a batch against itself alone"
        return f"{self.golden}, document {self.index + 1}"


@dataclass(frozen=True)
class Comparison:
    """One score beside what it must be."""

    place: Place
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
            f"{self.place}: expected {self.expected:.6g}, got {self.computed:.6g} "
            f"(tolerance {self.tolerance:.3g})"
        )


@dataclass(frozen=True)
class Verdict:
    """What all comparisons together say."""

    comparisons: tuple[Comparison, ...]
    passed: bool
    message: str
    """A sentence for people, without the full stop."""
    skipped: tuple[str, ...] = ()
    """Published goldens that say nothing about this configuration, and why."""
    suspects_weights: bool = False
    """Whether the model computed what is no number."""

    @property
    def checked(self) -> int:
        """Return how many scores were compared."""
        return len(self.comparisons)

    @property
    def max_deviation(self) -> float:
        """Return the largest absolute difference."""
        return max((comparison.deviation for comparison in self.comparisons), default=0.0)

    @property
    def sets(self) -> tuple[str, ...]:
        """Return what was compared, in words, each once."""
        named = (
            place.origin if place.origin == place.source else f"{place.origin}: {place.source}"
            for place in (comparison.place for comparison in self.comparisons)
        )
        return tuple(dict.fromkeys(named))


def judge(comparisons: Iterable[Comparison], skipped: Sequence[str] = ()) -> Verdict:
    """Sum comparisons up; the message shows the first that disagrees."""
    compared = tuple(comparisons)
    wrong = [comparison for comparison in compared if not comparison.agrees]
    if not wrong:
        largest = Verdict(compared, True, "").max_deviation
        message = f"{len(compared)} scores agree, the largest deviation is {largest:.2g}"
    elif len(wrong) == 1:
        message = str(wrong[0])
    else:
        message = f"{wrong[0]}, and {len(wrong) - 1} more of {len(compared)} scores are off"
    return Verdict(compared, not wrong, message, tuple(skipped))


def compare_golden(golden: Golden, computed: Sequence[float]) -> list[Comparison]:
    """Set a golden's scores beside the computed ones."""
    return [
        Comparison(
            Place(golden.origin, golden.source, golden.name, golden.query, index, document),
            expected,
            score,
            golden.tolerance,
        )
        for index, (document, expected, score) in enumerate(
            zip(golden.documents, golden.scores, computed, strict=True)
        )
    ]


def compare_with_itself(alone: Sequence[float], together: Sequence[float], dtype: str) -> list[Comparison]:
    """Set scores of the probe's documents by themselves beside their scores in one batch."""
    return [
        Comparison(
            Place(SELF_CHECK, SELF_CHECK, SELF_CHECK, PROBE_QUERY, index, document),
            expected,
            score,
            SELF_TOLERANCE[dtype] * max(1.0, abs(expected)),
        )
        for index, (document, expected, score) in enumerate(
            zip(PROBE_DOCUMENTS, alone, together, strict=True)
        )
    ]


async def verify(reranker: Reranker, goldens: Sequence[Golden] = ()) -> Verdict:
    """Score what is known, and say whether the model may take traffic.

    Goldens go the way of a request, through the queue and beside whatever waits there. The self-check always
    runs, and by itself: neighbours must not change a score, so it chooses which there are. A golden that
    cannot be scored, or whose scores are not one for each document, fails the verification; a published one
    that does not fit the manifest's settings is skipped. Raises what says nothing of the scores, such as
    `ClosedError`.
    """
    comparisons: list[Comparison] = []
    skipped: list[str] = []
    where = ""
    try:
        for golden in goldens:
            where = golden.name
            if len(golden.scores) != len(golden.documents):
                message = (
                    f"{where} has {len(golden.documents)} documents and {len(golden.scores)} scores: "
                    "give one score for each document"
                )
                return Verdict(tuple(comparisons), False, message, tuple(skipped))
            try:
                comparisons += compare_golden(golden, await _scores(reranker, golden))
            except InputError as error:
                if not golden.is_published:
                    raise
                skipped.append(f"{where} ({golden.source}): {error}")
        where = SELF_CHECK
        comparisons += await _check_itself(reranker)
    except (InputError, ComputeError) as error:
        message = f"{where}: {str(error).removesuffix('.')}"
        return Verdict(
            tuple(comparisons),
            False,
            message,
            tuple(skipped),
            suspects_weights=isinstance(error, ComputeError),
        )
    return judge(comparisons, skipped)


async def _scores(reranker: Reranker, golden: Golden) -> Sequence[float]:
    if golden.scale is None:
        return (await reranker.score(golden.query, golden.documents)).values
    takes_instruction = reranker.loaded.ranker.takes_instruction
    instruction = golden.instruction if takes_instruction else None
    raw = (await reranker.raw_scores(golden.query, golden.documents, Cut("error"), instruction)).values
    shown = raw if golden.scale == "none" else logistic(raw)
    scores: list[float] = shown.tolist()
    return scores


async def _check_itself(reranker: Reranker) -> list[Comparison]:
    cut = Cut("document")
    alone = [
        float((await reranker.raw_scores_apart(PROBE_QUERY, [document], cut))[0])
        for document in PROBE_DOCUMENTS
    ]
    together = (await reranker.raw_scores_apart(PROBE_QUERY, PROBE_DOCUMENTS, cut)).tolist()
    return compare_with_itself(alone, together, reranker.loaded.engine.dtype)
