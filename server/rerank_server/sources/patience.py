"""How often and how soon something that may pass is tried again."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from rerank_server.sources.interface import SourceError

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """A bounded number of further tries, each after a pause."""

    pauses: tuple[float, ...] = (1.0, 4.0, 15.0)
    """Seconds before the second, third, … try."""
    longest: float = 60.0
    """Seconds that the other side may ask to wait; asked for more, the caller is told instead."""

    def retrying(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns; raise its `SourceError` once it is final or the tries are used up."""
        for pause in self.pauses:
            try:
                return work()
            except SourceError as error:
                asked = error.retry_after or 0.0
                if not error.transient or asked > self.longest:
                    raise
                wait = max(pause, asked)
                log.warning("%s Trying again in %g s.", error, wait)
                time.sleep(wait)
        return work()
