"""Everything that is known of a model's scores, compared with what it computes, and written down."""

import sys
import time

from rerank_api.rerank_model import RerankModel
from rerank_api.verification import ScoreComparison, VerificationReport
from rerank_server.daemons import in_daemon_thread
from rerank_server.goldens import goldens_of, published_for
from rerank_server.reranker import Reranker
from rerank_server.sources import Checkpoint
from rerank_server.unsound import unsound_tensor
from rerank_server.verification import Comparison, verify


async def prove(reranker: Reranker, manifest: RerankModel, checkpoint: Checkpoint) -> VerificationReport:
    """Compare the manifest's goldens, the published ones of this model, and the self-check.

    Raises `ServerError` where the model takes no requests, which says nothing of its scores.
    """
    began = time.perf_counter()
    loaded = reranker.loaded
    dtype = loaded.engine.dtype
    published = published_for(manifest.spec.source, checkpoint.revision, dtype)
    verdict = await verify(reranker, (*goldens_of(manifest), *published))
    message = verdict.message
    if verdict.suspects_weights:
        cause = await in_daemon_thread(lambda: unsound_tensor(checkpoint.path))
        if cause is not None:
            message = f"the scores are no numbers, because {cause}"
    return VerificationReport(
        passed=verdict.passed,
        checked=verdict.checked,
        max_deviation=_finite(verdict.max_deviation),
        sets=verdict.sets,
        skipped=verdict.skipped,
        message=message,
        required=manifest.spec.verify.required,
        model=manifest.public_names[0],
        family=loaded.family,
        engine=loaded.engine.name,
        engine_reason=loaded.engine_reason,
        revision=checkpoint.revision,
        dtype=dtype,
        max_length=loaded.max_length,
        seconds=time.perf_counter() - began,
        scores=tuple(_written(comparison) for comparison in verdict.comparisons),
    )


def _written(comparison: Comparison) -> ScoreComparison:
    place = comparison.place
    return ScoreComparison(
        origin=place.origin,
        source=place.source,
        golden=place.golden,
        query=place.query,
        document_index=place.index,
        document=place.document,
        expected=comparison.expected,
        got=comparison.computed,
        deviation=_finite(comparison.deviation),
        tolerance=comparison.tolerance,
        agrees=comparison.agrees,
    )


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return min(value, sys.float_info.max)
