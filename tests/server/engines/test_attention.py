"""Attention without padding is attention with a mask; the arguments of torch's CUDA kernels say the same."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine import attention
from rerank_server.engine.attention import (
    QUERIES_AT_ONCE,
    Batch,
    States,
    Window,
    blocks,
    loosened,
    row_by_row,
    varlen_by_signature,
    window_of,
)
from rerank_server.engine.interface import Row
from rerank_server.engine.layout import Layout, Numbering, Stretch, lay_out
from rerank_server.engine.segments import Segments

FULL, CAUSAL = Window(-1, -1), Window(-1, 0)
WINDOWS = [FULL, CAUSAL, Window(4, 4), Window(4, 0)]
WHOLE = [pytest.param(window, False, id=f"{window}, each row whole") for window in WINDOWS]
SHARED = [pytest.param(window, True, id=f"{window}, a shared beginning") for window in (CAUSAL, Window(4, 0))]
ROWS = [
    Row([1, 2, 3, 4, 5, 6, 7, 8, 9], shared=6),
    Row([1, 2, 3, 4, 5, 6, 9], shared=6),
    Row(list(range(20))),
    Row([7]),
]


def made_batch(rows: list[Row], *, share: bool) -> tuple[Batch, Layout]:
    layout = lay_out(rows, Numbering(), share=share)
    query_edges, key_edges = (torch.from_numpy(each) for each in (layout.query_edges(), layout.key_edges()))
    batch = Batch(
        layout.stretches,
        Segments.of(torch.from_numpy(layout.lengths)),
        query_edges=query_edges,
        key_edges=key_edges if layout.scattered else query_edges,
        key_places=torch.from_numpy(layout.key_places()) if layout.scattered else None,
        longest_query=int(query_edges.diff().max()),
        longest_key=int(key_edges.diff().max()),
    )
    return batch, layout


def made_states(tokens: int, heads: int = 4, key_heads: int = 4) -> States:
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(1, heads, tokens, 8, generator=generator)
    key, value = (torch.randn(1, key_heads, tokens, 8, generator=generator) for _ in range(2))
    return States(query, key, value, 0.3)


def by_one_mask(states: States, layout: Layout, window: Window) -> Tensor:
    """Attend over the whole batch at once, with a mask of all tokens against all."""
    tokens = len(layout.ids)
    allowed = torch.zeros(tokens, tokens, dtype=torch.bool)
    for stretch in layout.stretches:
        own = range(stretch.start, stretch.start + stretch.attended)
        keys = [*range(stretch.prefix_start, stretch.prefix_start + stretch.prefix_length), *own]
        for query in range(stretch.start, stretch.start + stretch.length):
            at = stretch.prefix_length + query - stretch.start
            for place, key in enumerate(keys):
                near = (window.before < 0 or at - place <= window.before) and (
                    window.after < 0 or place - at <= window.after
                )
                allowed[query, key] = near
    attended = functional.scaled_dot_product_attention(
        states.query, states.key, states.value, allowed, scale=states.scale, enable_gqa=states.grouped
    )
    return attended[0].transpose(0, 1)


@pytest.mark.parametrize(("window", "share"), [*WHOLE, *SHARED])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["own keys", "grouped heads"])
@pytest.mark.parametrize("at_once", [QUERIES_AT_ONCE, 3], ids=["one block", "blocks of three"])
def test_row_by_row_is_one_mask_over_all(
    window: Window, key_heads: int, share: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", at_once)
    batch, layout = made_batch(ROWS, share=share)
    states = made_states(len(layout.ids), key_heads=key_heads)
    expected = by_one_mask(states, layout, window)
    assert torch.allclose(row_by_row(states, batch, window), expected, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_tokens_that_none_attends_to_attend_themselves(window: Window) -> None:
    batch, layout = made_batch([Row([1, 2, 3, 4, 5, 6], unattended=2), Row([8, 9])], share=False)
    states = made_states(len(layout.ids))
    expected = by_one_mask(states, layout, window)
    assert torch.allclose(row_by_row(states, batch, window), expected, atol=1e-6)


def naive_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    scale: float,
    window: Window,
) -> Tensor:
    """Compute what torch documents of `varlen_attn`: windows are aligned at the ends of queries and keys."""
    out = torch.empty(len(query), query.shape[1], value.shape[2])
    times = query.shape[1] // key.shape[1]
    for place in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[place] : cu_seq_q[place + 1]].transpose(0, 1)
        k, v = (
            each[cu_seq_k[place] : cu_seq_k[place + 1]].repeat_interleave(times, 1).transpose(0, 1)
            for each in (key, value)
        )
        ahead = k.shape[1] - q.shape[1]
        distance = torch.arange(q.shape[1])[:, None] + ahead - torch.arange(k.shape[1])
        allowed = torch.ones_like(distance, dtype=torch.bool)
        if window.before >= 0:
            allowed &= distance <= window.before
        if window.after >= 0:
            allowed &= distance >= -window.after
        weights = (q @ k.transpose(1, 2) * scale).masked_fill(~allowed, float("-inf")).softmax(-1)
        out[cu_seq_q[place] : cu_seq_q[place + 1]] = (weights @ v).transpose(0, 1)
    return out


def kernel_of_2_10(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    return_aux: object = None,
    *,
    scale: float,
) -> Tensor:
    assert query.shape[1] == key.shape[1], "this kernel knows no grouped heads"
    _require_longest(cu_seq_q, max_q, cu_seq_k, max_k)
    return naive_varlen(query, key, value, cu_seq_q, cu_seq_k, scale, CAUSAL if is_causal else FULL)


def kernel_of_2_12(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    assert enable_gqa or query.shape[1] == key.shape[1]
    _require_longest(cu_seq_q, max_q, cu_seq_k, max_k)
    assert (cu_seq_q is cu_seq_k) == torch.equal(cu_seq_q, cu_seq_k), "cuDNN tells equal lengths by identity"
    return naive_varlen(query, key, value, cu_seq_q, cu_seq_k, scale, Window(*window_size))


def _require_longest(cu_seq_q: Tensor, max_q: int, cu_seq_k: Tensor, max_k: int) -> None:
    assert (cu_seq_q.dtype, cu_seq_k.dtype) == (torch.int32, torch.int32)
    assert (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max())) == (max_q, max_k)


@pytest.mark.parametrize("kernel", [kernel_of_2_10, kernel_of_2_12])
@pytest.mark.parametrize(("window", "share"), [*WHOLE, *SHARED])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["own keys", "grouped heads"])
def test_the_kernel_for_cuda_is_given_what_makes_it_the_same(
    kernel: Callable[..., Any], window: Window, key_heads: int, share: bool
) -> None:
    rows = [*ROWS] if share else [*ROWS, Row([1, 2, 3, 4], unattended=1)]
    batch, layout = made_batch(rows, share=share)
    states = made_states(len(layout.ids), key_heads=key_heads)
    attend = varlen_by_signature(kernel)
    assert attend is not None
    assert torch.allclose(attend(states, batch, window), row_by_row(states, batch, window), atol=1e-6)


def test_this_torch_has_a_kernel_that_is_understood() -> None:
    from torch.nn.attention.varlen import varlen_attn

    assert varlen_by_signature(varlen_attn) is not None


def test_a_kernel_of_other_arguments_is_left_alone() -> None:
    def other(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
        return query

    assert varlen_by_signature(other) is None
    assert varlen_by_signature(functools.partial(other, offsets=torch.zeros(1))) is None


@pytest.mark.parametrize(
    ("sliding_window", "causal", "expected"),
    [
        pytest.param(None, False, FULL, id="all sees all"),
        pytest.param(None, True, CAUSAL, id="what comes before"),
        pytest.param(65, False, Window(64, 64), id="ModernBERT says half of the window plus one"),
        pytest.param(4096, True, Window(4095, 0), id="Mistral counts the token itself"),
    ],
)
def test_transformers_bounds_are_exclusive(
    sliding_window: int | None, causal: bool, expected: Window
) -> None:
    assert window_of(sliding_window, causal=causal) == expected


@pytest.mark.parametrize(
    ("window", "longest", "expected"),
    [
        pytest.param(Window(4095, 0), 512, CAUSAL, id="Mistral's window is wider than the rows"),
        pytest.param(Window(64, 64), 65, FULL, id="all tokens are near"),
        pytest.param(Window(64, 64), 66, Window(64, 64), id="two are not"),
        pytest.param(CAUSAL, 1, CAUSAL, id="causal attention stays causal"),
        pytest.param(FULL, 9, FULL, id="nothing to loosen"),
    ],
)
def test_a_window_that_no_row_fills_is_none(window: Window, longest: int, expected: Window) -> None:
    assert loosened(window, longest) == expected


def test_a_window_bounds_what_one_call_computes() -> None:
    found = list(blocks(Stretch(0, 2000), Window(64, 64)))
    assert [each.end - each.first for each in found] == [512, 512, 512, 464]
    assert max(each.key_end - each.key_first for each in found) == 512 + 2 * 64
