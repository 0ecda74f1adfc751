"""From raw scores to 0..1: what `activation: sigmoid` and the dialects that promise 0..1 show. Pure.

Every scale is monotonic, so the order, which is decided on raw scores, is also the order of what is shown.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from rerank_server.engine.interface import Vectors

Scale: TypeAlias = Callable[[Vectors], Vectors]
"""Raw scores -> 0..1, fp32, [documents] -> [documents]."""


def logistic(raw: Vectors) -> Vectors:
    """Return 1 / (1 + e^-x): what a logit that was trained with binary cross-entropy means."""
    # e^-|x| never overflows, and gives the same value on both sides of zero.
    small = np.exp(-np.abs(raw))
    return np.asarray(np.where(raw >= 0, 1, small) / (1 + small), dtype=np.float32)


def tempered(temperature: float) -> Scale:
    """Return the logistic function of x / temperature, for models that were calibrated so."""

    def scale(raw: Vectors) -> Vectors:
        return logistic(raw / np.float32(temperature))

    return scale


def clipped(raw: Vectors) -> Vectors:
    """Return a cosine as it is; what is below zero, as unlike as can be shown, is zero."""
    return np.clip(raw, 0, 1).astype(np.float32)


def mean_of(count: int) -> Scale:
    """Return the share of a sum of `count` cosines, clipped as a cosine is."""

    def scale(raw: Vectors) -> Vectors:
        return clipped(raw / np.float32(count))

    return scale
