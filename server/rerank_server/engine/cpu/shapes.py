"""Few shapes of tensors: oneDNN compiles a kernel for each one that it meets.

That takes half a millisecond and 0.7 MB: in bf16 a fifth of the time, where every row of a batch has another
length. So tokens are rounded up, which costs some per cent more arithmetic, and the kernels of usual batches
all fit into `rerank_server.imports.KERNELS_KEPT`.
"""

VECTOR = 32
"""Numbers in bf16 that a CPU with AVX-512 handles at once; those that are left over, one by one."""


def whole_vectors(length: int) -> int:
    """Return `length`, rounded up to whole vectors."""
    return _up(length, VECTOR)


def rows_computed(rows: int) -> int:
    """Return for how many rows to compute what is computed once a row."""
    return _up(rows, 8)


def tokens_computed(tokens: int) -> int:
    """Return for how many tokens to compute what is computed for every token."""
    return _up(tokens, 16 if tokens <= 512 else 32)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
