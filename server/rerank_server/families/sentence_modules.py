"""What sentence-transformers' files say of an embedding model. Pure, but for the pooling and dense configs.

The names are those of sentence-transformers' saved modules: modules.json, 1_Pooling/config.json,
2_Dense/config.json and config_sentence_transformers.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rerank_server.families.checkpoint import CheckpointFiles, Module, read_json

SIMILARITIES = ("cosine", "dot")
DEFAULT_POOLING = "mean"
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How the pooling mode was written before it was one word; in the order in which several are joined."""
STEPS = ("Dense", "LayerNorm", "Normalize")
"""The modules that may follow pooling."""
DENSE_INPUT = "sentence_embedding"


@dataclass(frozen=True)
class Prompts:
    """Text that is put before every query and every document."""

    query: str = ""
    document: str = ""


def prompts(files: CheckpointFiles) -> Prompts:
    """Return the prompts by the names that `encode_query` and `encode_document` look for."""
    named = files.sentence_transformers.get("prompts") or {}
    documents = (named.get(name) for name in ("document", "passage", "corpus"))
    return Prompts(named.get("query") or "", next(filter(None, documents), ""))


def similarity(files: CheckpointFiles) -> str:
    """Return the similarity that the checkpoint declares, cosine where it declares none."""
    return str(files.sentence_transformers.get("similarity_fn_name") or "cosine")


def pooling_modes(files: CheckpointFiles) -> tuple[str, ...]:
    """Return the pooling modes, whose results are put side by side; mean where nothing is said."""
    if not files.modules:
        return (DEFAULT_POOLING,)
    config = _pooling(files)
    mode = config.get("pooling_mode")
    if isinstance(mode, str):
        return (mode,)
    if mode:
        return tuple(mode)
    return tuple(word for flag, word in LEGACY_MODES.items() if config.get(flag)) or (DEFAULT_POOLING,)


def objection(files: CheckpointFiles) -> str | None:
    """Say what these files ask for that would be done otherwise here, or None."""
    kinds = [module.kind for module in files.modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(STEPS):
        return f"modules.json lists {', '.join(kinds)}"
    declared = files.sentence_transformers.get("model_type", "SentenceTransformer")
    if declared != "SentenceTransformer":
        return f"config_sentence_transformers.json declares a {declared}"
    if similarity(files) not in SIMILARITIES:
        return f"its similarity is {similarity(files)}, not {' or '.join(SIMILARITIES)}"
    task = files.sentence_bert.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        return f"sentence_bert_config.json asks for the task {task}"
    return layers_objection(files) or next(filter(None, map(_score_objection, files.modules)), None)


def layers_objection(files: CheckpointFiles, *, last: str | None = None) -> str | None:
    """Say what pooling or a later layer does that is not done here, or None.

    `last` is what the last layer writes, where that is no embedding.
    """
    kinds = [module.kind for module in files.modules]
    if not set(kinds[2:]) <= set(STEPS):
        return f"modules.json lists {', '.join(kinds)}"
    return _pooling_objection(files) or next(
        filter(None, (dense_objection(each, last=last) for each in files.modules)), None
    )


def _pooling_objection(files: CheckpointFiles) -> str | None:
    unknown = [mode for mode in pooling_modes(files) if mode not in POOLING_MODES]
    if unknown:
        return f"its pooling mode is {unknown[0]}"
    if _pooling(files).get("include_prompt") is False and prompts(files) != Prompts():
        return "its pooling leaves the prompt out"
    return None


def _pooling(files: CheckpointFiles) -> Mapping[str, Any]:
    return read_json(files.modules[1].folder / "config.json")


def _score_objection(module: Module) -> str | None:
    if module.kind == "Dense" and read_json(module.folder / "config.json").get("out_features") == 1:
        return "its modules end in a single score, not in an embedding"
    return None


def dense_objection(
    module: Module, *, reads: tuple[str, ...] = (DENSE_INPUT,), last: str | None = None
) -> str | None:
    """Say why a dense layer is not one that is done here, or None.

    `reads` is what its input may be called, which is also what it may write, besides `last`.
    """
    if module.kind != "Dense":
        return None
    config = read_json(module.folder / "config.json")
    source = config.get("module_input_name") or reads[0]
    target = config.get("module_output_name") or source
    if config.get("use_residual") or source not in reads or target not in {*reads, last}:
        return f"{module.folder.name} is not a plain dense layer"
    activation = str(config.get("activation_function", "torch.nn."))
    return (
        None
        if activation.startswith("torch.nn.")
        else f"{module.folder.name} has the activation {activation}"
    )
