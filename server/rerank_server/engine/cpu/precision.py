"""Whether bf16 is worth having on this CPU: one with instructions for it may still be slower than in fp32."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.cpu.operators import Linear, objection

SHAPE = (256, 384, 1536)
"""Tokens, features in, features out: a few milliseconds on one core."""
ROUNDS = 10
WORTH_SAYING = 0.9
"""Of fp32's speed: what is nearer to it than this is as good as noise."""


@torch.inference_mode()
def bfloat16_speed() -> float:
    """Return how many times as fast as fp32 one core multiplies bf16.

    CPU time is measured, in turn, and the best round counts: whatever else runs here only makes one slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        products = {dtype: _product(dtype) for dtype in (torch.float32, torch.bfloat16)}
        rounds = [{dtype: _seconds(run) for dtype, run in products.items()} for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    best = {dtype: min(taken[dtype] for taken in rounds) for dtype in products}
    return best[torch.float32] / best[torch.bfloat16]


def remark(speed: float) -> str | None:
    """Say what somebody who asked for bf16 ought to know of its `speed`, as a multiple of fp32's, or None."""
    if speed >= WORTH_SAYING:
        return None
    return (
        f"bfloat16 products run at {speed:.2f} of float32's speed on this CPU: set scoring.dtype to float32, "
        "unless memory is short"
    )


def _seconds(run: Callable[[], Tensor]) -> float:
    begun = time.thread_time()
    run()
    return time.thread_time() - begun


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return the fastest linear layer that there is for this type, on some numbers, run once."""
    tokens, inputs, outputs = SHAPE
    x, weight, bias = (
        torch.ones(size, dtype=dtype) for size in ((tokens, inputs), (outputs, inputs), outputs)
    )
    if objection(dtype) is None:
        run = partial(Linear(weight, bias), x)
    else:
        run = partial(functional.linear, x, weight, bias)
    run()  # compiles the kernel
    return run
