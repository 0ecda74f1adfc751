"""Whether a transformers model can be run without padding, and how it wants its rows."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rerank_server.engine.attention import Unpackable, current
from rerank_server.engine.layout import Numbering
from rerank_server.engine.segments import Segments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATEFUL_ROPE = ("dynamic", "longrope")
"""Rotary positions that change with the longest row of a batch, and are kept on the module."""
SOFTCAP = "attn_logit_softcapping"


@dataclass(frozen=True)
class Shape:
    """What a model's forward pass takes."""

    numbering: Numbering
    takes_type_ids: bool
    has_segments: bool
    """It has a table of segments, and takes segment zero where it is told none."""
    causal: bool
    """Every layer attends to earlier tokens only."""
    window: int
    """The narrowest sliding window, as transformers names it; zero where there is none."""
    arguments: Mapping[str, Any]
    """Further arguments of the base model."""


def shape_of(model: "PreTrainedModel") -> Shape:
    """Look at a model's classes and settings. Raises `Unpackable` where packing is known not to be exact."""
    name = type(model).__name__
    config = model.config.get_text_config()
    if not model.is_backend_compatible():  # type: ignore[no-untyped-call]
        raise Unpackable(f"{name} has an attention of its own, not transformers' interface")
    taken = inspect.signature(model.base_model.forward).parameters
    if "position_ids" not in taken:
        raise Unpackable(f"{name} takes no position_ids")
    if getattr(config, SOFTCAP, None) is not None:
        raise Unpackable(f"{name} caps its attention ({SOFTCAP})")
    layers = set(getattr(config, "layer_types", None) or ())
    if strange := sorted(layers - {"full_attention", "sliding_attention"}):
        raise Unpackable(f"{name} has layers of the type {strange[0]}")
    for module in model.modules():
        rope = getattr(module, "rope_type", None)
        for kind in rope.values() if isinstance(rope, dict) else [rope]:
            if kind in STATEFUL_ROPE:
                raise Unpackable(f"{name} has positions ({kind}) that change with the longest row of a batch")
    return Shape(
        numbering=_numbering(model),
        takes_type_ids="token_type_ids" in taken,
        has_segments=getattr(config, "type_vocab_size", 0) > 0,
        causal=_attends_causally(model),
        window=_window(config, layers),
        arguments={"use_cache": False} if "use_cache" in taken else {},
    )


def _numbering(model: "PreTrainedModel") -> Numbering:
    """Count as RoBERTa-likes do where the table of positions has a `padding_idx`: from behind that."""
    for module in model.base_model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return Numbering(table.padding_idx + 1, table.padding_idx)
    return Numbering()


def _attends_causally(model: "PreTrainedModel") -> bool:
    told = [
        module.is_causal
        for module in model.base_model.modules()
        if isinstance(getattr(module, "is_causal", None), bool)
    ]
    return bool(told) and all(told)


def _window(config: Any, layers: set[str]) -> int:
    wide = getattr(config, "sliding_window", None)
    if not isinstance(wide, int) or (layers and "sliding_attention" not in layers):
        return 0
    return wide


def reduction(model: "PreTrainedModel") -> Any:
    """Give the model's own pooler and head one token a row: its first, or the mean where it reads that.

    The hidden states, [1, tokens, width], become [rows, 1, width] behind the last layer. Returns the hook's
    handle. Outside of the packed engine the hook does nothing.
    """
    pooling = getattr(model.config, "classifier_pooling", None)
    if pooling not in (None, "cls", "bos", "mean"):
        raise Unpackable(f"{type(model).__name__} pools by `{pooling}`")

    def reduce(hidden: Tensor) -> Tensor:
        batch = current.get()
        return hidden if batch is None else _one_token(hidden[0], batch.rows, mean=pooling == "mean")

    def reduce_output(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return reduce(output)
        if isinstance(output, tuple):
            return (reduce(output[0]), *output[1:])
        output.last_hidden_state = reduce(output.last_hidden_state)
        return output

    base = model.base_model
    encoder, pooler = getattr(base, "encoder", None), getattr(base, "pooler", None)
    if isinstance(encoder, nn.Module):
        return encoder.register_forward_hook(reduce_output, prepend=True)
    if isinstance(pooler, nn.Module):
        return pooler.register_forward_pre_hook(lambda _, given: (reduce(given[0]), *given[1:]), prepend=True)
    return base.register_forward_hook(reduce_output, prepend=True)


def _one_token(hidden: Tensor, rows: Segments, *, mean: bool) -> Tensor:
    """[tokens, width] -> [rows, 1, width]."""
    if not mean:
        return hidden[rows.starts].unsqueeze(1)
    total = torch.segment_reduce(hidden.float(), "sum", lengths=rows.lengths.long(), axis=0, unsafe=True)
    return (total / rows.lengths.unsqueeze(1)).unsqueeze(1)
