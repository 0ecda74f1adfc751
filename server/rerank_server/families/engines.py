"""Which engine computes a checkpoint: the first that takes it, and the reason in words.

Engines decline what they cannot compute exactly (`Declined`); the padded one takes everything that
transformers can run, so it comes last.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rerank_server.engine.readout import Readout
from rerank_server.errors import LoadError
from rerank_server.families.bert_files import open_for_cpu
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import Computed, Declined, Plan
from rerank_server.families.transformer import Transformer

log = logging.getLogger(__name__)

AUTO = "auto"
ENGINES = ("cpu", "causal", "packed", "padded")
"""By name, the best first."""
Candidate = Callable[[], Computed]
"""Loads the weights into an engine. Raises `Declined` and `LoadError`."""


def open_engine(files: CheckpointFiles, plan: Plan, readout: Readout) -> Computed:
    """Load the weights into the first engine that takes them, or into the one that `plan` names.

    Raises `LoadError`.
    """
    candidates = _candidates(files, plan, readout)
    declined: dict[str, list[str]] = {}
    for name, candidate in candidates.items():
        if plan.engine not in {AUTO, name}:
            continue
        try:
            computed = candidate()
        except Declined as why:
            log.info("engine %s does not take it: %s", name, why)
            declined.setdefault(str(why), []).append(name)
            continue
        reason = "; ".join([computed.reason, *_sentences(declined)])
        log.info("engine %s: %s", computed.engine.name, reason)
        return Computed(computed.engine, reason, computed.facts)
    raise LoadError(
        f"{files.architecture} in {files.root} cannot be computed by the engine `{plan.engine}`"
        + (f": {'; '.join(_sentences(declined))}." if declined else f": there is {', '.join(candidates)}.")
    )


def _sentences(declined: Mapping[str, Sequence[str]]) -> list[str]:
    """Say who declined why: `not causal, packed: …`."""
    return [f"not {', '.join(names)}: {why}" for why, names in declined.items()]


def _candidates(files: CheckpointFiles, plan: Plan, readout: Readout) -> Mapping[str, Candidate]:
    """Return the engines by name, the best first."""
    transformer = Transformer(files, plan, readout)
    openers = (
        partial(open_for_cpu, files, plan, readout),
        transformer.causal,
        transformer.packed,
        transformer.padded,
    )
    return dict(zip(ENGINES, openers, strict=True))
