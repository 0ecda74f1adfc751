"""Keep one process running: start it, say when it ends, start it again with growing pauses."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable

from rerank_cli.up.backoff import Crash, after_end
from rerank_cli.up.processes import Child, Command
from rerank_cli.up.view import View, ended
from rerank_gateway.envoy_binary import EnvoyNotFoundError

ASK_S = 0.1
START_S = 120.0
"""From the start to the first answer, at most."""
ASK_WHILE_UP_S = 2.0
MOST_UNANSWERED = 3
"""Asks in a row that a process which hangs leaves unanswered before it is killed."""


class Keeper:
    """Runs one command for as long as `run` does. `up` is set while the process is there and answers.

    `prepare` writes the files that the process reads, before each start, and returns the command. A process
    that no longer answers is killed, and started again like any that ended.

    Lines that match `routine` are not forwarded; they are told only if the process ends by itself.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[], Command],
        answers: Callable[[], Awaitable[bool]],
        view: View,
        *,
        routine: re.Pattern[str],
    ) -> None:
        self.up = asyncio.Event()
        self._name = name
        self._prepare = prepare
        self._answers = answers
        self._view = view
        self._routine = routine
        self._child: Child | None = None
        self._stopping = False
        self._renewing = False

    async def run(self) -> None:
        """Start the process whenever it is not there, until `stopping` was called and it has ended."""
        crash: Crash | None = None
        while not self._stopping:
            ready_since: float | None = None
            last_lines: tuple[str, ...] = ()
            self._renewing = False
            try:
                self._child = await Child.start(self._prepare(), self._forward)
            except (OSError, EnvoyNotFoundError) as error:
                how = f"could not be started: {error}"
            else:
                ready_since, how = await self._until_it_ends(self._child)
                last_lines = self._child.last_lines()
            self.up.clear()
            if not self._stopping and not self._renewing:
                now = time.monotonic()
                crash = after_end(crash, how, ready_since=ready_since, now=now)
                pause = crash.retry_at - now
                self._view.warn(ended(f"The gateway's {self._name}", how, pause, last_lines))
                await asyncio.sleep(pause)

    def stopping(self) -> None:
        """Do not start it again from now on."""
        self._stopping = True

    async def renew(self, limit_s: float) -> None:
        """End the process, so that it is started again at once on what is prepared then."""
        self._renewing = True
        await self.end(limit_s)

    async def end(self, limit_s: float) -> None:
        """Ask the process to end, and kill it after `limit_s` seconds; return when it is gone."""
        if self._child is None:
            return
        if limit_s > 0:
            self._child.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.ended(), limit_s)
        self._child.kill()
        await self._child.ended()

    def _forward(self, line: str) -> None:
        if not self._routine.search(line):
            self._view.line(self._name, line)

    async def _until_it_ends(self, child: Child) -> tuple[float | None, str]:
        """Follow `child` to its end; return when it first answered, and how it ended."""
        ready_since: float | None = None
        asking = asyncio.create_task(self._until_it_answers())
        ending = asyncio.ensure_future(child.ended())
        try:
            await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED, timeout=START_S)
            if asking.done() and not ending.done():
                asking.result()
                ready_since = time.monotonic()
                self.up.set()
                asking = asyncio.create_task(self._until_it_is_silent())
                await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done() and not self._stopping:
                self._view.warn(f"The gateway's {self._name} does not answer, so it is killed.")
                child.kill()
            return ready_since, await ending
        finally:
            asking.cancel()
            ending.cancel()

    async def _until_it_answers(self) -> None:
        while True:
            if await self._answers():
                return
            await asyncio.sleep(ASK_S)

    async def _until_it_is_silent(self) -> None:
        unanswered = 0
        while unanswered < MOST_UNANSWERED:
            await asyncio.sleep(ASK_WHILE_UP_S)
            unanswered = 0 if await self._answers() else unanswered + 1
