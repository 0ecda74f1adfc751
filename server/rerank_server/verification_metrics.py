"""What a server's metrics say of its verifications."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge

from rerank_api.verification import VerificationReport


class VerificationMetrics:
    """How often scores were compared, and how the last comparison ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._verifications = Counter(
            "rerank_verifications",
            "Verifications of the model's scores, by outcome: passed or failed.",
            ["outcome"],
            registry=registry,
        )
        self._passed = Gauge(
            "rerank_verification_passed",
            "1 where the last verification passed, 0 where it failed; NaN before the first.",
            registry=registry,
        )
        self._max_deviation = Gauge(
            "rerank_verification_max_deviation",
            "Largest absolute difference of a score in the last verification; NaN before the first.",
            registry=registry,
        )
        self._passed.set(math.nan)
        self._max_deviation.set(math.nan)
        for outcome in ("passed", "failed"):
            self._verifications.labels(outcome)

    def observe(self, report: VerificationReport) -> None:
        """Count a verification."""
        self._verifications.labels("passed" if report.passed else "failed").inc()
        self._passed.set(report.passed)
        self._max_deviation.set(report.max_deviation)
