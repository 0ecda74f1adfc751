"""Load a transformers model, and accept nothing but exactly the weights that it needs."""

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.interface import ModelFacts, Plan
from rerank_server.families.weights import require_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
NAMES_SHOWN = 5


def load_pretrained(
    files: CheckpointFiles, plan: Plan, model_class: Any, *, unused: tuple[str, ...] = ()
) -> "PreTrainedModel":
    """Load the weights into `model_class`, a transformers class or auto class, ready for inference.

    transformers fills tensors that the checkpoint lacks with random numbers; that is refused here, but for
    tensors whose name starts with one of `unused`. Raises `LoadError`.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    require_weights(files.transformer)
    hush: Callable[[], None] = disable_progress_bar
    hush()
    try:
        model, info = model_class.from_pretrained(
            files.transformer,
            dtype=getattr(torch, plan.dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise LoadError(f"{files.architecture} cannot be loaded from {files.transformer}: {error}") from error
    _require_complete(files, info, unused)
    loaded: PreTrainedModel = model.to(plan.device).eval()
    return loaded


def _require_complete(files: CheckpointFiles, info: Mapping[str, Any], unused: tuple[str, ...]) -> None:
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(unused))
    if missing:
        raise LoadError(
            f"The weights in {files.transformer} lack {_some(missing)}, which {files.architecture} needs: "
            "this checkpoint was not trained for it, or is not complete."
        )
    mismatched = [
        f"{name} ({list(found)} instead of {list(wanted)})"
        for name, found, wanted in sorted(info["mismatched_keys"])
    ]
    if mismatched:
        raise LoadError(
            f"The weights in {files.transformer} do not fit its config.json: {_some(mismatched)}. "
            "Weights and config.json are from different models: download both again."
        )
    if info["error_msgs"]:
        raise LoadError(
            f"The weights in {files.transformer} cannot be used: {_some(list(info['error_msgs']))}."
        )
    if info["unexpected_keys"]:
        log.info("%s: not used: %s", files.transformer, _some(sorted(info["unexpected_keys"])))


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def facts(model: "PreTrainedModel") -> ModelFacts:
    """Return what a loaded model says of the rows that it takes."""
    return ModelFacts(positions(model), takes_type_ids(model), pad_id(model))


def takes_type_ids(model: "PreTrainedModel") -> bool:
    """Say whether segment numbers mean anything to the model."""
    taken = "token_type_ids" in inspect.signature(model.forward).parameters
    return taken and getattr(model.config, "type_vocab_size", 2) > 1


def pad_id(model: "PreTrainedModel") -> int:
    """Return what rows are padded with: what the model takes for padding, else zero, which the mask hides.

    RoBERTa-likes tell padding from tokens by this id when they number positions.
    """
    of_model: int | None = model.config.get_text_config().pad_token_id
    return of_model or 0


def positions(model: "PreTrainedModel") -> int | None:
    """Return how many tokens a row of this model may have; None where its configuration does not say.

    RoBERTa-likes number positions from `padding_idx + 1` on, so their table has that many entries more than
    it takes tokens; torch marks such a table by its `padding_idx`.
    """
    import torch

    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
            return limit - table.padding_idx - 1
    return limit
