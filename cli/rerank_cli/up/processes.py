"""One child process: started so that it dies with the runner, its lines forwarded, its end told."""

import asyncio
import collections
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rerank_cli.up.endings import in_words

LAST_LINES = 10
LONGEST_LINE = 2000
END_OF_OUTPUT_S = 1.0
LAUNCH = Path(__file__).with_name("launch.py")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminal control sequences and control characters, which a child's line must not bring to our terminal."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """What to run. `environment` replaces the runner's own where it is given."""

    argv: Sequence[str]
    inherited: tuple[int, ...] = ()
    """File descriptors that the child keeps, under the same numbers."""
    environment: Mapping[str, str] | None = None


class Child:
    """A running process. Its output goes line by line to `say`; `ended` is its exit, told once."""

    def __init__(self, process: asyncio.subprocess.Process, say: Say) -> None:
        self._process = process
        self._say = say
        self._last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._ended = asyncio.create_task(self._follow())

    @classmethod
    async def start(cls, command: Command, say: Say) -> "Child":
        """Start `command` in a session of its own, out of reach of the terminal's Ctrl-C."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *command.argv,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=command.inherited, env=command.environment, start_new_session=True,
        )  # fmt: skip
        return cls(process, say)

    @property
    def pid(self) -> int:
        """The process id, also the id of its group and session."""
        return self._process.pid

    def ended(self) -> Awaitable[str]:
        """Wait for the end; return it in words. May be awaited often, and be cancelled."""
        return asyncio.shield(self._ended)

    def last_lines(self) -> tuple[str, ...]:
        """The end of the output so far, oldest first."""
        return tuple(self._last)

    def terminate(self) -> None:
        """Ask it to drain and end (SIGTERM)."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it now, with whatever it has started (SIGKILL to its group)."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _follow(self) -> str:
        reading = asyncio.create_task(self._forward())
        returncode = await self._process.wait()
        # A grandchild may hold the pipe open: the end of the process counts, not that of its output.
        await asyncio.wait((reading,), timeout=END_OF_OUTPUT_S)
        reading.cancel()
        return in_words(returncode)

    async def _forward(self) -> None:
        stream = cast(asyncio.StreamReader, self._process.stdout)  # a pipe was asked for
        rest = b""
        while piece := await stream.read(65536):
            *lines, rest = re.split(rb"[\r\n]+", rest + piece)
            for line in lines:
                self._tell(line)
            if len(rest) > LONGEST_LINE:
                self._tell(rest)
                rest = b""
        self._tell(rest)

    def _tell(self, line: bytes) -> None:
        text = CONTROL.sub("", line[:LONGEST_LINE].decode(errors="replace")).rstrip()
        if text:
            self._last.append(text)
            self._say(text)
