"""An event loop whose clock jumps to whatever is due next: an hour of pauses takes no time, and is exact."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

MANY = 100_000
"""Rounds of a loop that does something useful; more is a loop that never rests."""


class Loop(asyncio.SelectorEventLoop):
    """Counts its rounds, and fails where nothing can ever happen any more."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.rounds += 1
        assert self._loop.rounds < MANY, "the loop never rests"
        found = super().select(0)
        assert found or timeout is not None, "everybody waits, and nothing is due"
        if not found and timeout is not None:
            self._loop.now += max(timeout, 0.0)
        return found


def run(story: Coroutine[Any, Any, Result]) -> Result:
    """Run a story to its end."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(story)


def rounds() -> int:
    """Return how often the running loop has woken up."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return loop.rounds
