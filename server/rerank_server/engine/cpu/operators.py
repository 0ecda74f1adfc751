"""oneDNN's linear layer with its weights laid out in advance, and GELU or a residual fused in.

These operators are torch's own but private (`torch.ops.mkldnn`, made for its compiler), so they are tried
before they are relied upon.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PACKED_FOR_ROWS = 1024
"""oneDNN chooses a layout for about this many tokens at a time; it stays right for any other number."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1}


class Linear:
    """`x @ weight.T + bias`, alone, through GELU, or added to a residual. Several threads may use one."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight` [out, in] and `bias` [out], of one type; both are copied."""
        self._bias = bias.clone()
        self._weight: Tensor = _operator("_reorder_linear_weight")(weight.contiguous(), PACKED_FOR_ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        """[tokens, in] -> [tokens, out]."""
        result: Tensor = _operator("_linear_pointwise")(x, self._weight, self._bias, "none", [], "")
        return result

    def gelu(self, x: Tensor) -> Tensor:
        """[tokens, in] -> [tokens, out], through the exact GELU (by erf)."""
        result: Tensor = _operator("_linear_pointwise")(x, self._weight, self._bias, "gelu", [None], "none")
        return result

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """[tokens, in] and [tokens, out] -> [tokens, out], their sum."""
        result: Tensor = _operator("_linear_pointwise").binary(x, residual, self._weight, self._bias, "add")
        return result


def product(x: Tensor, other: Tensor) -> Tensor:
    """[n, k] and [m, k] -> [n, m], `x @ other.T`."""
    result: Tensor = _operator("_linear_pointwise")(x, other, None, "none", [], "")
    return result


def objection(dtype: torch.dtype) -> str | None:
    """Say why these operators cannot be used for a type on this machine, or return None.

    They are tried on numbers: an operator that is there and computes something else is no use.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's gap
        return "torch was built without oneDNN"
    if dtype is torch.bfloat16 and not _has_bfloat16_instructions():
        return "this CPU has no bfloat16 instructions"
    try:
        return _trial(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"torch {torch.__version__} lacks the fused linear layer ({type(error).__name__})"


def _trial(dtype: torch.dtype) -> str | None:
    numbers = torch.Generator().manual_seed(1)
    weight, bias, x, residual = (
        torch.randn(shape, generator=numbers).to(dtype) for shape in ((48, 32), (48,), (5, 32), (5, 48))
    )
    linear = Linear(weight, bias)
    plain = functional.linear(x.float(), weight.float(), bias.float())
    trials = {
        "linear": (linear(x), plain),
        "product": (product(x, weight), functional.linear(x.float(), weight.float())),
        "GELU": (linear.gelu(x), functional.gelu(plain)),
        "residual": (linear.add(x, residual), plain + residual.float()),
    }
    for what, (fused, expected) in trials.items():
        if not torch.allclose(fused.float(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]):
            return f"torch {torch.__version__} computes the fused {what} otherwise than expected"
    return None


def _operator(name: str) -> Any:
    return getattr(torch.ops.mkldnn, name)


def _has_bfloat16_instructions() -> bool:
    """Say whether the CPU multiplies bf16 by itself; emulated, it is slower than fp32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
