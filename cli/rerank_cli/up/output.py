"""Standard output that never holds the runner up: a stopped terminal or a full pipe only loses lines."""

import contextlib
import io
import os
import queue
import threading
import time

from typing_extensions import Buffer

MOST_WAITING = 10_000
"""Pieces of text that wait for a reader; what comes then is dropped."""
LAST_WORDS_S = 1.0


def text_output(descriptor: int) -> io.TextIOWrapper:
    """Return a text stream to a file descriptor that never waits for its reader."""
    return io.TextIOWrapper(Output(descriptor), encoding="utf-8", errors="replace", write_through=True)


class Output(io.RawIOBase):
    """A byte stream to a file descriptor, written by a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
        threading.Thread(target=self._write_all, daemon=True, name="output").start()

    @property
    def name(self) -> int:
        """Return the file descriptor, as Python's own unnamed streams do."""
        return self._descriptor

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Say whether a person may be watching."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Say that it is for writing."""
        return True

    def write(self, content: Buffer, /) -> int:
        """Have it written soon; never wait for it."""
        piece = bytes(content)
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(piece)
        return len(piece)

    def close(self) -> None:
        """Wait a moment for what is left to be written; the descriptor stays open."""
        give_up = time.monotonic() + LAST_WORDS_S
        while self._waiting.unfinished_tasks and time.monotonic() < give_up:
            time.sleep(0.01)
        super().close()

    def _write_all(self) -> None:
        while True:
            rest = self._waiting.get()
            # Nobody reads any more after an error; what is served goes on.
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            self._waiting.task_done()
