"""What becomes of a device's memory where it did not suffice."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rerank_server.engine.failures import out_of_memory


@contextmanager
def given_back(device: torch.device) -> Iterator[None]:
    """Raise a lack of memory as it comes, once all that was computed for nothing is given back.

    What torch keeps of it for later passes is given back to the device as well: cuBLAS, and a kernel that is
    loaded for the first time, find no room in it. Who asked for these rows may run fewer at once.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            traceback.clear_frames(error.__traceback__)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        raise
