"""What a verification found, score by score: the answer to `POST /verify`, and what `rerank verify` prints.

The texts in it are those of goldens and of the self-check, never a caller's.
"""

from rerank_api.status import CamelModel, Verification


class ScoreComparison(CamelModel):
    """One computed score beside what it must be."""

    origin: str
    """`spec.verify.goldens`, `published`, or `self-check`."""
    source: str
    """Where the expected score comes from, in words."""
    golden: str
    """For people: `golden 2`."""
    query: str
    document_index: int
    document: str
    expected: float
    got: float
    deviation: float
    """The absolute difference, in units of the score."""
    tolerance: float
    agrees: bool


class VerificationReport(CamelModel):
    """All that one verification found, and of what."""

    passed: bool
    checked: int
    """How many scores were compared."""
    max_deviation: float
    """The largest absolute difference, in units of the score."""
    sets: tuple[str, ...]
    """What was compared, in words."""
    skipped: tuple[str, ...]
    """Published goldens that say nothing about this configuration, and why."""
    message: str
    """A sentence for people, without the full stop."""
    required: bool
    """Whether a replica whose scores deviate is kept from traffic."""
    model: str
    family: str
    engine: str
    engine_reason: str
    revision: str
    dtype: str
    max_length: int
    seconds: float
    scores: tuple[ScoreComparison, ...]

    def summary(self) -> Verification:
        """Return what `/status` says of it."""
        return Verification(
            checked=self.checked, max_deviation=self.max_deviation, passed=self.passed, sets=self.sets
        )
