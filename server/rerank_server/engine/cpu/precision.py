"""Whether bf16 is worth having on this CPU.

AMX multiplies it several times as fast as fp32; AVX-512 alone is faster on some CPUs and slower on others.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from rerank_server.engine.cpu.operators import Linear, objection

SHAPE = (256, 384, 1536)
"""Tokens, features in, features out: a few milliseconds on one core."""
ROUNDS = 5
WORTH_SAYING = 0.9
"""Of fp32's speed: what is nearer to it than this is as good as noise."""


@torch.inference_mode()
def bfloat16_speed() -> float:
    """Return how many times as fast as fp32 this CPU multiplies bf16, with the threads that torch has.

    The best of some rounds counts: whatever else runs on the machine only makes one slower.
    """
    return _seconds(torch.float32) / _seconds(torch.bfloat16)


def remark(speed: float) -> str | None:
    """Say what somebody who asked for bf16 ought to know of its `speed`, as a multiple of fp32's, or None."""
    if speed >= WORTH_SAYING:
        return None
    return (
        f"bfloat16 products run at {speed:.2f} of float32's speed on this CPU: set scoring.dtype to float32, "
        "unless memory is short"
    )


def _seconds(dtype: torch.dtype) -> float:
    tokens, inputs, outputs = SHAPE
    product = _product(torch.ones(outputs, inputs, dtype=dtype), torch.zeros(outputs, dtype=dtype))
    x = torch.ones(tokens, inputs, dtype=dtype)
    product(x)  # compiles the kernel
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        product(x)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _product(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the fastest linear layer that there is for this type."""
    if objection(weight.dtype) is None:
        return Linear(weight, bias)
    return lambda x: functional.linear(x, weight, bias)
