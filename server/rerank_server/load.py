"""From a folder with a checkpoint to a model that is ready to rank."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rerank_api.score_scale import ScoreScale
from rerank_server.engine.interface import Engine
from rerank_server.engine.threads import usable_cores
from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.interface import Dtype, Plan, Ranker, Truncate
from rerank_server.families.registry import AUTO, choose_family
from rerank_server.families.scales import Scale, logistic
from rerank_server.imports import for_good, settle_torch

log = logging.getLogger(__name__)

Activation: TypeAlias = Literal["none", "sigmoid"]
Report: TypeAlias = Callable[[str, float | None], None]
"""Told a sentence about what is going on, and the share of the load that is done, 0 to 1."""

CPU_BATCH_TOKENS = 1024
"""Larger batches gain nothing on a CPU, and a small request waits for every one that is running."""
CUDA_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class ScoringOptions:
    """`spec.scoring` of the manifest: how the model is run, and what its scores look like."""

    family: str = AUTO
    activation: Activation = "none"
    instruction: str | None = None
    max_length: int | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    truncate: Truncate = "document"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to rank."""

    family: str
    ranker: Ranker
    engine: Engine
    engine_reason: str
    """Why this engine, in a sentence without its full stop."""
    max_length: int
    batch_tokens: int
    """Tokens that one batch aims at; a longer row is a batch of its own."""
    options: ScoringOptions
    scale: Scale = logistic
    """Raw scores -> 0..1, as the family means them: what `activation: sigmoid` shows."""
    raw_scale: ScoreScale = ScoreScale.LOGIT
    """What raw scores are."""

    @property
    def score_scale(self) -> ScoreScale:
        """Return what scores are as the manifest has them shown."""
        return self.raw_scale if self.options.activation == "none" else self.raw_scale.as_sigmoid


def load(
    checkpoint_dir: Path,
    options: ScoringOptions,
    *,
    threads: int | None = None,
    engine: str = AUTO,
    report: Report | None = None,
) -> LoadedModel:
    """Load a checkpoint onto the GPU where torch sees one, else onto the CPU.

    `threads` is how many CPU threads the model gets, None for every core that the process may use; `engine`
    names the one that must compute it, else the best that takes it is chosen. Raises `LoadError` with what is
    wrong, in which file, and what to do.
    """
    tell = report or _tell_nobody
    tell("Reading the checkpoint", 0.0)
    files = read_checkpoint(checkpoint_dir)
    family = choose_family(files, options.family)
    tell("Starting torch", 0.1)
    device = _device(threads or usable_cores())
    plan = Plan(
        device=device,
        dtype=choose_dtype(options.dtype, device),
        max_length=options.max_length,
        batch_tokens=CUDA_BATCH_TOKENS if device != "cpu" else CPU_BATCH_TOKENS,
        engine=engine,
        instruction=options.instruction,
    )
    tell(f"Loading the tokenizer and {files.architecture} as {plan.dtype} on {device}", 0.4)
    opened = family.open(files, plan)
    if options.instruction is not None and not opened.ranker.takes_instruction:
        raise LoadError(f"scoring.instruction is set, and the family {family.name} takes none: leave it out.")
    return LoadedModel(
        family=family.name,
        ranker=opened.ranker,
        engine=opened.computed.engine,
        engine_reason=_with_remark(opened.computed.reason, plan),
        max_length=opened.max_length,
        batch_tokens=plan.batch_tokens,
        options=options,
        scale=opened.scale,
        raw_scale=opened.score_scale,
    )


def choose_dtype(asked: Literal["auto", "float32", "bfloat16", "float16"], device: str) -> Dtype:
    """Return the type of the weights: by itself fp32 on a CPU, where it is exact, and bf16 on a GPU.

    Raises `LoadError` for fp16 on a CPU, which computes it ten times slower than bf16.
    """
    if asked == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if asked == "float16" and device == "cpu":
        raise LoadError(
            "scoring.dtype is float16, which CPUs compute very slowly: set it to bfloat16, float32 or auto."
        )
    return asked


def _with_remark(reason: str, plan: Plan) -> str:
    """Return why the engine was chosen, and what speaks against the type of numbers on this CPU."""
    if plan.device != "cpu" or plan.dtype != "bfloat16":
        return reason
    from rerank_server.engine.cpu import precision

    remark = precision.remark(precision.bfloat16_speed())
    if remark is None:
        return reason
    log.warning(remark)
    return f"{reason}; {remark}"


def _device(threads: int) -> str:
    settle_torch()
    with for_good("torch"):
        import torch

    torch.set_num_threads(threads)
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _tell_nobody(_: str, __: float | None) -> None:
    pass
