"""What ends the tool with a sentence.

ImagesError
├── MissingError    a program or the test cluster is not there
└── CommandError    a command failed
"""

import shlex
from collections.abc import Sequence

TAIL_LINES = 30


class ImagesError(Exception):
    """What went wrong, and what to do, as a sentence."""


class MissingError(ImagesError):
    """A program or the test cluster is not there."""


class CommandError(ImagesError):
    """A command failed."""

    def __init__(self, command: Sequence[str], said: str) -> None:
        tail = "\n".join(said.strip().splitlines()[-TAIL_LINES:])
        super().__init__(
            f"`{shlex.join(command)}` failed:\n{tail}" if tail else f"`{shlex.join(command)}` failed."
        )
