"""Importing much, fast."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

KERNELS_KEPT = 128
"""Of 0.7 MB each; usual batches need half of them (`rerank_server.engine.cpu.shapes`)."""


def settle_torch() -> None:
    """Set what torch reads from the environment when it is opened, unless somebody has set it otherwise.

    oneDNN keeps what it compiled for each shape that it met: by default that grows by a gigabyte.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(KERNELS_KEPT))


@contextmanager
def for_good(module: str) -> Iterator[None]:
    """While `module` is imported for the first time, do not look for garbage, nor later among what it made.

    Imported objects stay until the process ends: looking takes a tenth of the time of `import torch`, and
    makes each full collection of a server's life as long as everything imported is large.
    """
    if module in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
