"""Attention within each row of a packed batch, by whichever of three ways is fastest for the row.

All give softmax(q k^T / sqrt(size)) v. The limits between them were measured on a CPU with AVX-512, where
torch's own fp32 products run at half of oneDNN's speed, and its fused attention uses no bf16 instructions.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.cpu.operators import product
from rerank_server.engine.cpu.shapes import whole_vectors

SHORTEST_FOR_BFLOAT16_PRODUCTS = 48
"""Tokens from which on plain products are faster than fused attention in bf16."""
LEAST_FOR_ONEDNN = 9600
"""Tokens x size of a head, from which on oneDNN's products, head by head, are faster in fp32."""

Way: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, int], None]
"""Queries, keys, values, and where the result goes: [heads, tokens, size] each; and how many to attend to."""


def extent(dtype: torch.dtype, size: int, length: int) -> int:
    """Return how many tokens are multiplied for a row of `length`, from its first on, with heads of `size`.

    Those after its last are of the rows that follow: they are given no weight, and what they themselves would
    attend to is thrown away.
    """
    return length if _way(dtype, size, length) is _fused else whole_vectors(length)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Sequence[int],
    lengths: Sequence[int],
    *,
    attended: Sequence[int] | None = None,
) -> Tensor:
    """Attend within each row.

    `queries`, `keys` and `values` are [heads, tokens, size]; a row's tokens are `starts[i]` to
    `starts[i] + lengths[i]`, of which the first `attended[i]` are attended to, or all where it is None.
    Rows lie one after another; tokens after the last attend to nothing. Returns [tokens, heads x size].
    """
    heads, tokens, size = queries.shape
    result = torch.empty(tokens, heads, size, dtype=queries.dtype)
    by_head = result.transpose(0, 1)
    # In this order: what is written beyond the end of a row is overwritten by the next.
    for start, length, count in zip(starts, lengths, attended or lengths, strict=True):
        row = slice(start, min(start + extent(queries.dtype, size, length), tokens))
        way = _way(queries.dtype, size, length)
        way(queries[:, row], keys[:, row], values[:, row], by_head[:, row], count)
    result[starts[-1] + lengths[-1] :] = 0
    return result.view(tokens, heads * size)


def only_attended(values: Tensor, count: int) -> Tensor:
    """Return values, [heads, tokens, size], with zeros for all tokens but the first `count`.

    No weight is not enough to leave a token out: 0 times NaN is NaN.
    """
    if count == values.shape[1]:
        return values
    kept = values.clone()
    kept[:, count:] = 0
    return kept


def _way(dtype: torch.dtype, size: int, length: int) -> Way:
    if dtype is torch.bfloat16:
        return _products if length >= SHORTEST_FOR_BFLOAT16_PRODUCTS else _fused
    return _head_by_head if length * size >= LEAST_FOR_ONEDNN else _fused


def _fused(queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, count: int) -> None:
    attended = functional.scaled_dot_product_attention(
        queries[None], keys[None, :, :count], values[None, :, :count]
    )
    out.copy_(attended[0])


def _products(queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, count: int) -> None:
    weights = torch.bmm(queries * queries.shape[-1] ** -0.5, keys.transpose(1, 2))
    weights[:, :, count:] = float("-inf")
    torch.softmax(weights, -1, out=weights)
    torch.bmm(weights, only_attended(values, count), out=out)


def _head_by_head(queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, count: int) -> None:
    scaled = (queries * queries.shape[-1] ** -0.5).contiguous()
    keys, values = keys.contiguous(), only_attended(values, count).transpose(1, 2).contiguous()
    for head in range(len(scaled)):
        weights = product(scaled[head], keys[head])
        weights[:, count:] = float("-inf")
        out[head] = product(torch.softmax(weights, -1), values[head])
