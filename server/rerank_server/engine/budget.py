"""How many tokens one forward pass may have, and what happens where memory does not suffice for them."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from rerank_server.engine.failures import out_of_memory

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TokenBudget:
    """A bound that only shrinks. Several threads may use it."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """Return the present bound."""
        return self._tokens

    def shrink(self, failed: int) -> None:
        """Bound passes by half of `failed`, the tokens of one that was too large.

        It may have been begun under an earlier bound, so the present one is not halved once more for it.
        """
        with self._lock:
            self._tokens = max(1, min(self._tokens, failed // 2))


def if_it_fits(compute: Callable[[], Result], places: Sequence[int], device: torch.device) -> Result | None:
    """Compute the rows at `places`; None where memory does not suffice and fewer rows may do.

    Raises what `compute` raises where a row by itself does not fit, or the error is another one.
    """
    try:
        return compute()
    except (MemoryError, RuntimeError) as error:
        if len(places) == 1 or not out_of_memory(error):
            raise
    # Outside of the handler: the error holds on to the tensors of the pass that failed.
    log.warning("%d rows did not fit into the memory of %s: running halves", len(places), device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None
