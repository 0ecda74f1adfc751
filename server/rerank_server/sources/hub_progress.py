"""Bytes over all files of a download, counted through huggingface_hub's progress bars."""

import threading
from typing import Any

from huggingface_hub.utils.tqdm import tqdm

from rerank_server.sources.interface import Progress, Report


class Meter:
    """Adds up what is there and what arrives; what it reports never goes back, whatever is fetched anew."""

    def __init__(self, total: int | None, report: Report) -> None:
        self._total = total
        self._report = report
        self._lock = threading.Lock()
        self._settled = 0
        self._highest = -1

    def begin(self, size: int | None) -> type[tqdm]:
        """Return the class of bar that counts one try at one file of `size` bytes."""
        meter = self

        class Bar(tqdm):
            """A bar that draws nothing. Of a transfer's two (received, written) the further one counts."""

            def __init__(self, *args: Any, **options: Any) -> None:
                options.pop("name", None)
                silent = {**options, "disable": True}
                super().__init__(*args, **silent)  # type: ignore[no-untyped-call]  # not annotated there

            def update(self, n: float | None = 1) -> bool | None:
                """Count `n` more bytes."""
                self.n += n or 0
                meter._moved(int(self.n), size)
                return None

        return Bar

    def settle(self, size: int) -> None:
        """Count a whole file of `size` bytes as there."""
        with self._lock:
            self._settled += size
            self._say(self._settled)

    def _moved(self, done: int, size: int | None) -> None:
        with self._lock:
            self._say(self._settled + (done if size is None else min(done, size)))

    def _say(self, done: int) -> None:
        if done > self._highest:
            self._highest = done
            self._report(Progress(done, self._total))
