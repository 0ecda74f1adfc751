"""Prove that weight files are whole, from their headers alone, before anything is loaded.

The format is safetensors': eight bytes with the length of the header (little endian), the header as JSON,
then the tensors, whose `data_offsets` the header gives
(https://github.com/huggingface/safetensors#format).
"""

import contextlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import read_json

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""
LFS_POINTER = b"version https://git-lfs"


def require_weights(folder: Path) -> tuple[Path, ...]:
    """Return the folder's weight files, each proven whole.

    Raises `LoadError` naming the file that is missing, cut short or not safetensors.
    """
    paths = _weight_files(folder)
    for path in paths:
        require_whole(path)
    return paths


def _weight_files(folder: Path) -> tuple[Path, ...]:
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    index = folder / INDEX
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise LoadError(f"{index} has no `weight_map`: download it again.")
        return tuple(folder / name for name in sorted(set(names.values())))
    if any((folder / name).is_file() for name in PICKLES):
        raise LoadError(
            f"{folder} holds its weights as pickle files ({PICKLES[0]}), and reading those can run code: "
            "convert them to model.safetensors, or use a revision of the model that has them."
        )
    raise LoadError(f"{folder} holds no {SINGLE}: point the source at a checkpoint with safetensors weights.")


class TensorFiles:
    """The tensors of a checkpoint by name, read one at a time. A context manager.

    Raises `LoadError` where a weight file is not whole.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = require_weights(folder)
        self._files = contextlib.ExitStack()
        self._where: dict[str, Any] = {}

    def __enter__(self) -> "TensorFiles":
        from safetensors import safe_open

        for path in self._paths:
            file = self._files.enter_context(safe_open(path, framework="pt"))
            self._where.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(self, *_: object) -> None:
        self._where.clear()
        self._files.close()

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def read(self, name: str, dtype: "torch.dtype") -> "torch.Tensor":
        """Return a copy of the tensor in this type. Raises KeyError where there is none."""
        tensor: torch.Tensor = self._where[name].get_tensor(name)
        return tensor.to(dtype, copy=True)


def require_whole(path: Path) -> None:
    """Raise `LoadError` where a safetensors file is missing, cut short or something else."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if LFS_POINTER.startswith(start) and start:
                raise LoadError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`.")
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else LARGEST_HEADER + 1
            header = file.read(length) if length <= LARGEST_HEADER else b""
    except FileNotFoundError as error:
        raise LoadError(f"{path} is missing: download the checkpoint again.") from error
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}.") from error
    if size < 8 + length <= 8 + LARGEST_HEADER:
        raise _cut_short(path, size, f"at least {8 + length}")
    expected = 8 + length + _tensor_bytes(path, header)
    if size < expected:
        raise _cut_short(path, size, str(expected))
    if size > expected:
        raise LoadError(
            f"{path} is {size} bytes long, and its header speaks of {expected}: download it again."
        )


def _cut_short(path: Path, size: int, expected: str) -> LoadError:
    return LoadError(f"{path} is cut short: it has {size} of {expected} bytes. Download it again.")


def _tensor_bytes(path: Path, header: bytes) -> int:
    try:
        tensors = json.loads(header)
        return max(
            (each["data_offsets"][1] for name, each in tensors.items() if name != "__metadata__"), default=0
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LoadError(f"{path} is not a safetensors file: download it again.") from error
