"""Which engine computes a checkpoint: the first that takes it, and the reason in words.

Engines decline what they cannot compute exactly (`Declined`); the padded one takes everything that
transformers can run, so it comes last.
"""

import logging
from collections.abc import Callable
from typing import Any

from rerank_server.engine.readout import Classifier, NextToken, Readout
from rerank_server.errors import LoadError
from rerank_server.families.bert_files import open_for_cpu
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Computed, Declined, Plan

log = logging.getLogger(__name__)

CAUSAL = "ForCausalLM"
UNUSED = ("pooler.",)
"""Weights that transformers' base classes have, and that reading the hidden states leaves aside."""


Candidate = Callable[[CheckpointFiles, Plan, Readout], Computed]


def open_engine(files: CheckpointFiles, plan: Plan, readout: Readout) -> Computed:
    """Load the weights into the first engine that takes them, or into the one that `plan` names.

    Raises `LoadError`.
    """
    declined: list[str] = []
    for name, candidate in CANDIDATES.items():
        if plan.engine not in {"auto", name}:
            continue
        try:
            computed = candidate(files, plan, readout)
        except Declined as why:
            declined.append(f"{name} does not take it: {why}")
            log.info("engine %s", declined[-1])
            continue
        reason = "; ".join([computed.reason, *declined])
        log.info("engine %s: %s", computed.engine.name, reason)
        return Computed(computed.engine, reason, computed.facts)
    raise LoadError(
        f"{files.architecture} in {files.root} cannot be computed by the engine `{plan.engine}`"
        + (f": {'; '.join(declined)}." if declined else f": there is {', '.join(CANDIDATES)}.")
    )


def _padded(files: CheckpointFiles, plan: Plan, readout: Readout) -> Computed:
    from rerank_server.engine.heads import head_for, keep_head_in_float32
    from rerank_server.engine.padded import PaddedEngine
    from rerank_server.families.pretrained import facts, load_pretrained

    model_class = _model_class(files, readout)
    model = load_pretrained(files, plan, model_class, unused=UNUSED if _is_base(readout) else ())
    if plan.dtype != "float32" and isinstance(readout, Classifier):
        keep_head_in_float32(model)
    known = facts(model)
    try:
        head = head_for(model, readout)
    except ValueError as error:
        raise LoadError(f"{files.root} cannot be scored: {error}.") from error
    engine = PaddedEngine(model, head, pad_id=known.pad_id, max_tokens=plan.batch_tokens)
    return Computed(engine, "it runs every transformers model", known)


CANDIDATES: dict[str, Candidate] = {"cpu": open_for_cpu, "padded": _padded}
"""By name, the best first."""


def _is_base(readout: Readout) -> bool:
    return not isinstance(readout, Classifier | NextToken)


def _model_class(files: CheckpointFiles, readout: Readout) -> Any:
    """Return transformers' class for a readout. Raises `LoadError` where it knows none."""
    import transformers

    if _is_base(readout):
        return transformers.AutoModel
    if isinstance(readout, NextToken) and not files.architecture.endswith(CAUSAL):
        raise LoadError(f"{files.architecture} predicts no next token: only *{CAUSAL} models do.")
    found = getattr(transformers, files.architecture, None)
    if found is None:
        raise LoadError(
            f"transformers {transformers.__version__} has no {files.architecture}, and a checkpoint's own "
            "code is never run: use a model whose architecture transformers knows."
        )
    return found
