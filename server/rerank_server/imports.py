"""Importing much, fast."""

import ctypes
import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LARGEST = ("libtorch_global_deps.so", "libtorch_cpu.so", "libtorch_cuda.so")
"""Of torch's libraries, in the order in which it opens them itself."""


KERNELS_KEPT = 128
"""Of 0.7 MB each; usual batches need half of them (`rerank_server.engine.cpu.shapes`)."""


def settle_torch() -> None:
    """Set what torch reads from the environment when it is opened, unless somebody has set it otherwise.

    oneDNN keeps what it compiled for each shape that it met: by default that grows by a gigabyte.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(KERNELS_KEPT))


def open_torch_ahead() -> None:
    """Have torch's libraries opened on a thread of its own, while others are imported.

    A fifth of the time of `import torch` is the dynamic linker's, which needs no interpreter. Not where
    LD_LIBRARY_PATH may lead it to other libraries of CUDA than torch's own: `import torch` minds that. What
    cannot be opened is left to `import torch` too, which says why.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or sys.platform != "linux" or os.environ.get("LD_LIBRARY_PATH"):
        return
    settle_torch()
    libraries = [Path(spec.origin).parent / "lib" / name for name in _LARGEST]
    there = [path for path in libraries if path.is_file()]
    threading.Thread(target=_open, args=(there,), name="torch-ahead", daemon=True).start()


def _open(libraries: list[Path]) -> None:
    # `ctypes.CDLL(path)` would hold the interpreter meanwhile; a function that is called through it does not.
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    for path in libraries:
        dlopen(os.fsencode(path), os.RTLD_LAZY | (os.RTLD_GLOBAL if path == libraries[0] else os.RTLD_LOCAL))


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
