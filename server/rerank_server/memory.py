"""Memory that is free, and that the C library keeps for later."""

import ctypes
import gc
import sys


def give_free_memory_back() -> None:
    """Give the kernel what nothing uses any more: after a load, some tens of megabytes."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc's: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
