"""From lists of numbers to the device in one copy, without waiting for the copy before."""

import queue
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Integers = npt.NDArray[np.int32]


class Staging:
    """Sends int32 arrays to a device. On CUDA through page-locked buffers, of which one is filled while the
    copy out of another still runs; on a CPU there is nothing to copy. Several threads may send at once.
    """

    def __init__(self, device: torch.device, *, buffers: int = 2) -> None:
        self._device = device
        self._free: queue.Queue[_Buffer] = queue.Queue()
        if device.type == "cuda":
            for _ in range(buffers):
                self._free.put(_Buffer(pinned=True))

    def send(self, arrays: Sequence[Integers]) -> list[Tensor]:
        """Return the arrays on the device, in their order; all are parts of one allocation there."""
        if self._device.type != "cuda":
            return [torch.from_numpy(each) for each in arrays]
        buffer = self._free.get()
        try:
            filled = buffer.fill(arrays)
            sent = filled.to(self._device, non_blocking=True)
            buffer.copied(torch.cuda.current_stream(self._device))
        finally:
            self._free.put(buffer)
        return list(torch.split(sent, [len(each) for each in arrays]))

    def fetch(self, values: Tensor) -> "Arriving":
        """Begin to copy fp32 values to the host, behind all that the device has been told to compute."""
        return Arriving(values, self._device)


class _Buffer:
    """A page-locked array that grows as needed, and the end of the last copy out of it."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._host = torch.empty(0, dtype=torch.int32)
        self._copied: torch.cuda.Event | None = None

    def fill(self, arrays: Sequence[Integers]) -> Tensor:
        """Wait until the buffer may be overwritten, put the arrays into it, and return that part of it."""
        if self._copied is not None:
            self._copied.synchronize()
        total = sum(len(each) for each in arrays)
        if total > len(self._host):
            size = 1 << (total - 1).bit_length()
            self._host = torch.empty(size, dtype=torch.int32, pin_memory=self._pinned)
        if total:
            np.concatenate(arrays, out=self._host.numpy()[:total])
        return self._host[:total]

    def copied(self, stream: Any) -> None:
        """Remember that a copy was begun on this stream."""
        self._copied = _event()
        self._copied.record(stream)


class Arriving:
    """Values on their way to the host."""

    def __init__(self, values: Tensor, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type != "cuda":
            self._host = values
            return
        self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._host.copy_(values, non_blocking=True)
        self._event = _event()
        self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> npt.NDArray[np.float32]:
        """Return the values once they are here."""
        if self._event is not None:
            self._event.synchronize()
        array: npt.NDArray[np.float32] = self._host.numpy()
        return array


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
