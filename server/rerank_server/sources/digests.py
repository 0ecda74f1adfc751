"""Digests that say what a file is: the hub's two, and a cheap one for local checkpoints."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Algorithm = Literal["sha256", "git-sha1"]
WHOLE_FILE_BYTES = 1 << 20
SAMPLES = 64
SAMPLE_BYTES = 16 << 10


@dataclass(frozen=True)
class Digest:
    """What a file's content must be.

    `sha256` is that of Git LFS (the `oid` of its pointer); `git-sha1` is git's own object id of a blob:
    the SHA-1 of `blob <size>\\0` and the content (git-scm.com, "Git Internals - Git Objects").
    """

    algorithm: Algorithm
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def digest_of(path: Path, algorithm: Algorithm) -> Digest:
    """Read the whole file and return its digest."""
    with path.open("rb") as file:
        if algorithm == "sha256":
            return Digest(algorithm, hashlib.file_digest(file, "sha256").hexdigest())
        head = b"blob %d\0" % os.fstat(file.fileno()).st_size
        seeded = hashlib.sha1(head, usedforsecurity=False)
        return Digest(algorithm, hashlib.file_digest(file, lambda: seeded).hexdigest())


def content_revision(root: Path, names: Iterable[str]) -> str:
    """Return `content-` and 16 hexadecimal digits over the named files: the same on every machine.

    For each file in the order of `names`: its name, its size, and its content, whole up to 1 MiB. Of a
    larger file, 64 samples of 16 KiB at even distances, the first and the last bytes among them: 1 MiB read,
    however large it is. Training moves every weight, so two checkpoints differ in their samples; a single
    byte changed by hand between two samples goes unseen.
    """
    total = hashlib.sha256()
    for name in names:
        with (root / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            total.update(f"{len(name)}:{name}:{size}:".encode())
            for offset, length in _reads(size):
                file.seek(offset)
                total.update(file.read(length))
    return f"content-{total.hexdigest()[:16]}"


def _reads(size: int) -> list[tuple[int, int]]:
    """Return which (offset, length) to read of a file of `size` bytes."""
    if size <= WHOLE_FILE_BYTES:
        return [(0, size)]
    last = size - SAMPLE_BYTES
    return [(last * i // (SAMPLES - 1), SAMPLE_BYTES) for i in range(SAMPLES)]
