"""The families, and which of them takes a checkpoint."""

from collections.abc import Sequence

from rerank_server.errors import LoadError
from rerank_server.families import own_code
from rerank_server.families.bge_gemma import BGE_GEMMA
from rerank_server.families.causal import CAUSAL, CausalReranker
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.ctxl_rerank_v2 import CTXL_RERANK_V2
from rerank_server.families.embedding import EmbeddingFamily
from rerank_server.families.interface import Family, Fit
from rerank_server.families.multi_vector import MultiVector
from rerank_server.families.mxbai_rerank_v2 import MXBAI_RERANK_V2
from rerank_server.families.pooled_cross_encoder import PooledCrossEncoder
from rerank_server.families.qwen3_reranker import QWEN3_RERANKER
from rerank_server.families.sequence_classification import SequenceClassification
from rerank_server.families.zerank import ZERANK

CAUSAL_FAMILIES = (QWEN3_RERANKER, MXBAI_RERANK_V2, BGE_GEMMA, ZERANK, CTXL_RERANK_V2)
FAMILIES: tuple[Family, ...] = (
    *CAUSAL_FAMILIES,
    SequenceClassification(),
    PooledCrossEncoder(),
    MultiVector(),
    EmbeddingFamily(),
)
AUTO = "auto"


def choose_family(files: CheckpointFiles, wanted: str = AUTO) -> Family:
    """Return the family that the manifest names, or the first that recognises the checkpoint.

    Raises `LoadError`, with what each family found, where none takes it.
    """
    if wanted != AUTO:
        return _named(files, wanted)
    found = [(family, family.recognise(files, named=False)) for family in FAMILIES]
    for family, fit in found:
        if fit.fits:
            return family
    raise LoadError(_refusal(files, found))


def _refusal(files: CheckpointFiles, found: Sequence[tuple[Family, Fit]]) -> str:
    """Say what is wrong with the checkpoint itself, else what each family that might have it says."""
    start = f"{files.architecture} in {files.root} is not supported"
    if (foreign := own_code.objection(files)) is not None:
        return f"{start}: {foreign}."
    if files.architecture.endswith(CAUSAL):
        return f"{start}: {_prompt_unknown(files)}"
    return (
        f"{start}. "
        + " ".join(
            f"As {family.name}: {fit.reason}."
            for family, fit in found
            if not isinstance(family, CausalReranker)
        )
        + f" Supported are: {'; '.join(family.summary for family in FAMILIES)}."
    )


def _prompt_unknown(files: CheckpointFiles) -> str:
    takers = [family.name for family in CAUSAL_FAMILIES if family.takes(files.architecture)]
    choice = f"If it is of {' or '.join(takers)}, set scoring.family to that. " if takers else ""
    return (
        "a causal model ranks by a prompt that it was trained with, and at random by any other, and neither "
        f"its chat template nor its name tells which. {choice}"
        f"Causal families are {', '.join(family.name for family in CAUSAL_FAMILIES)}."
    )


def _named(files: CheckpointFiles, wanted: str) -> Family:
    for family in FAMILIES:
        if family.name == wanted:
            fit = family.recognise(files, named=True)
            if fit.fits:
                return family
            raise LoadError(
                f"{files.architecture} in {files.root} cannot be served as {wanted}: {fit.reason}. "
                f"Set scoring.family to {AUTO}, or to the family that the checkpoint is of."
            )
    names = ", ".join([AUTO, *(family.name for family in FAMILIES)])
    raise LoadError(f"scoring.family is `{wanted}`: it must be one of {names}.")
