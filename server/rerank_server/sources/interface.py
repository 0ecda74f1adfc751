"""What every model source gives: a checkpoint on disk, or a sentence that says why not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rerank_server.errors import ServerError


@dataclass(frozen=True)
class Checkpoint:
    """A model as files on this machine."""

    path: Path
    """The directory that holds config.json, the tokenizer's files and the weights."""
    revision: str
    """What exactly these files are: a commit, `name==version`, or a digest of their content."""


@dataclass(frozen=True)
class Progress:
    """How far a fetch is, in bytes over all files of the model."""

    done: int
    total: int | None
    """None where the source does not say how much there is."""


Report = Callable[[Progress], None]
"""Takes progress; called from the thread that fetches and from threads of its transfers, in order."""


class SourceError(ServerError):
    """A model cannot be had; the message says what is wrong, where, and what to do."""

    def __init__(self, message: str, *, transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        """Worth trying again by itself: nothing that a person could change stands in the way."""
        self.retry_after = retry_after
        """Seconds that the other side asked to wait; None where it did not say."""
