"""Attention over rows that lie one after another, for transformers' models as they are.

It is registered with transformers under `NAME` and without a mask function, so that the models build no mask;
what belongs together comes by a context variable, so that threads may run one model at the same time.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rerank_server.engine.layout import Stretch
from rerank_server.engine.segments import Segments

NAME = "rerank_packed"
QUERIES_AT_ONCE = 512
"""Queries of one call where a mask is needed: it bounds the mask, and cuts away what a window hides."""
FLASH_DTYPES = (torch.bfloat16, torch.float16)
LARGEST_FLASH_HEAD = 256
FLASH_HEAD_STEP = 8
UNSUPPORTED = ("softcap", "position_bias", "s_aux")
"""Arguments of attention functions that change scores in ways which are not computed here."""


class Unpackable(Exception):  # noqa: N818  # not an error: another engine takes the model
    """A model that cannot be run without padding; the text says why, without a full stop."""


class Window(NamedTuple):
    """How many tokens before and after itself a token attends to; -1 stands for all."""

    before: int
    after: int


class States(NamedTuple):
    """What attention computes with."""

    query: Tensor
    """[1, heads, tokens, size]"""
    key: Tensor
    """[1, heads or fewer, tokens, size]"""
    value: Tensor
    scale: float | None

    @property
    def grouped(self) -> bool:
        """Say whether several heads of the query share one of key and value."""
        return self.query.shape[1] != self.key.shape[1]


class Block(NamedTuple):
    """Queries `first` to `end` of a stretch, and the keys `key_first` to `key_end` of prefix and stretch."""

    first: int
    end: int
    key_first: int
    key_end: int
    masked: bool


@dataclass
class Batch:
    """One forward pass on its device."""

    stretches: tuple[Stretch, ...]
    rows: Segments
    query_edges: Tensor
    """int32, [stretches + 1]"""
    key_edges: Tensor
    """int32, [stretches + 1]; the very same tensor where they are equal, which is how cuDNN sees it."""
    key_places: Tensor | None
    """int32, [keys]; None where every stretch attends to its own tokens only."""
    longest_query: int
    longest_key: int
    masks: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    """Made by the first layer, used by all."""
    calls: int = 0


current: ContextVar[Batch | None] = ContextVar("rerank_packed_batch", default=None)
"""What this thread's model is running."""

Attend = Callable[[States, Batch, Window], Tensor]
"""Returns [tokens, heads, size]."""


def register() -> None:
    """Make the function known to transformers. Doing so again changes nothing."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)


def packed_attention(  # noqa: PLR0917  # transformers calls it so
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do: [1, heads, tokens, size] -> [1, tokens, heads, size].

    Raises `Unpackable` for what it does not compute.
    """
    batch = current.get()
    if batch is None:
        raise RuntimeError(f"the attention `{NAME}` was called by another than the packed engine")
    name = type(module).__name__
    if attention_mask is not None:
        raise Unpackable(f"{name} makes an attention mask of its own")
    if extra := [each for each in UNSUPPORTED if more.get(each) is not None]:
        raise Unpackable(f"{name} has {extra[0]} in its attention")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    window = window_of(sliding_window, causal=causal)
    batch.calls += 1
    states = States(query, key, value, scaling)
    attend = (_varlen(states) if query.is_cuda else None) or row_by_row
    return attend(states, batch, window).unsqueeze(0), None


def window_of(sliding_window: int | None, *, causal: bool) -> Window:
    """Read transformers' bound, which is exclusive: its own models say half of the window, plus one."""
    if sliding_window is None:
        return Window(-1, 0) if causal else Window(-1, -1)
    return Window(sliding_window - 1, 0 if causal else sliding_window - 1)


def loosened(window: Window, longest: int) -> Window:
    """Return the window without bounds that `longest` tokens cannot reach: kernels are faster without."""
    before = -1 if window.before >= longest - 1 else window.before
    after = -1 if window.after >= longest - 1 and window.after > 0 else window.after
    return Window(before, after)


def blocks(stretch: Stretch, window: Window) -> Iterator[Block]:
    """Divide a stretch behind its prefix: one call without a mask where all sees all, else bounded ones."""
    length, prefix = stretch.length, stretch.prefix_length
    keys = prefix + stretch.attended
    before = -1 if window.before >= prefix + length - 1 else window.before
    after = -1 if window.after >= length - 1 else window.after
    if before < 0 and after < 0:
        yield Block(0, length, 0, keys, masked=False)
        return
    for first in range(0, length, QUERIES_AT_ONCE):
        end = min(first + QUERIES_AT_ONCE, length)
        key_first = max(0, prefix + first - before) if before >= 0 else 0
        key_end = min(keys, prefix + end + after) if after >= 0 else keys
        yield Block(first, end, key_first, key_end, masked=True)


def row_by_row(states: States, batch: Batch, window: Window) -> Tensor:
    """Call torch's attention stretch by stretch, on any device: [tokens, heads, size]."""
    query, key, value, scale = states
    out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    for stretch in batch.stretches:
        start, end = stretch.start, stretch.start + stretch.length
        keys, values = _behind_prefix(key, stretch), _behind_prefix(value, stretch)
        # torch aligns causal attention at the first key, so it is right without a prefix only.
        causal = (
            window.after == 0
            and not (stretch.prefix_length or stretch.unattended)
            and not 0 <= window.before < stretch.length - 1
        )
        whole = Block(0, stretch.length, 0, stretch.length, masked=False)
        for part in [whole] if causal else blocks(stretch, window):
            if part.key_end <= part.key_first:
                out[start + part.first : start + part.end] = 0
                continue
            attended = functional.scaled_dot_product_attention(
                query[:, :, start:end][:, :, part.first : part.end],
                keys[:, :, part.key_first : part.key_end],
                values[:, :, part.key_first : part.key_end],
                attn_mask=_mask(batch, part, stretch.prefix_length, window, query) if part.masked else None,
                is_causal=causal,
                scale=scale,
                enable_gqa=states.grouped,
            )
            out[start + part.first : start + part.end] = attended[0].transpose(0, 1)
    return out


def _behind_prefix(states: Tensor, stretch: Stretch) -> Tensor:
    own = states[:, :, stretch.start : stretch.start + stretch.attended]
    if not stretch.prefix_length:
        return own
    prefix = states[:, :, stretch.prefix_start : stretch.prefix_start + stretch.prefix_length]
    return torch.cat([prefix, own], dim=2)


def _mask(batch: Batch, part: Block, prefix: int, window: Window, like: Tensor) -> Tensor:
    """Return who may attend to whom: [queries, keys], True where it may."""
    queries, keys = part.end - part.first, part.key_end - part.key_first
    # How far the first query stands from the first key.
    ahead = prefix + part.first - part.key_first
    name = (queries, keys, ahead, *window)
    if name not in batch.masks:
        distance = torch.arange(queries, device=like.device).unsqueeze(1) + ahead
        distance = distance - torch.arange(keys, device=like.device)
        allowed = torch.ones(queries, keys, dtype=torch.bool, device=like.device)
        if window.before >= 0:
            allowed &= distance <= window.before
        if window.after >= 0:
            allowed &= distance >= -window.after
        batch.masks[name] = allowed
    return batch.masks[name]


def _varlen(states: States) -> Attend | None:
    """Return torch's kernel for rows of different lengths where it takes these tensors."""
    sizes = (states.query.shape[3], states.value.shape[3])
    if states.query.dtype not in FLASH_DTYPES or sizes[0] != sizes[1]:
        return None
    if sizes[0] > LARGEST_FLASH_HEAD or sizes[0] % FLASH_HEAD_STEP:
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_by_signature(varlen_attn)


@functools.cache
def varlen_by_signature(kernel: Callable[..., Any]) -> Attend | None:
    """Adapt `varlen_attn` of this torch; None where its arguments are not known.

    2.10 tells causal attention by `is_causal` and knows neither windows nor grouped heads; later ones have
    `window_size` and, from 2.12 on, `enable_gqa`. Both align causal attention at the end of the keys.
    """
    taken = inspect.signature(kernel).parameters
    if not {"cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale"} <= taken.keys():
        return None
    if not taken.keys() & {"window_size", "is_causal"}:
        return None

    def attend(states: States, batch: Batch, window: Window) -> Tensor:
        window = loosened(window, max(batch.longest_query, batch.longest_key))
        # Kernels align the ends of queries and keys, which is wrong where keys are left out at the end.
        misaligned = window != (-1, -1) and any(stretch.unattended for stretch in batch.stretches)
        if misaligned or (window.before >= 0 and "window_size" not in taken):
            return row_by_row(states, batch, window)
        query, key, value = (each[0].transpose(0, 1) for each in states[:3])
        if batch.key_places is not None:
            key, value = key[batch.key_places], value[batch.key_places]
        more: dict[str, Any] = {"scale": states.scale}
        if "window_size" in taken:
            more["window_size"] = tuple(window)
        else:
            more["is_causal"] = window.after == 0
        if states.grouped and "enable_gqa" in taken:
            more["enable_gqa"] = True
        elif states.grouped:
            times = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(times, 1) for each in (key, value))
        edges = (batch.query_edges, batch.key_edges)
        longest = (batch.longest_query, batch.longest_key)
        attended: Tensor = kernel(query, key, value, *edges, *longest, **more)
        return attended

    return attend
