"""One server process: started on a socket of ours, asked how far it is, stopped."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from pydantic import ValidationError

from rerank_api.status import ServerState, ServerStatus
from rerank_cli.up.processes import Child, Command, Say
from rerank_cli.up.standing import LOOPBACK
from rerank_cli.up.world import Phase, Replica, Slot

ASK_WHILE_STARTING_S = 0.2
ASK_WHILE_READY_S = 5.0
ANSWER_S = 5.0
BACKLOG = 2048


class Server:
    """A server process and what is known of it. `changed` is called whenever that becomes different."""

    def __init__(self, slot: Slot, child: Child, port: int, changed: Callable[[], None]) -> None:
        self.slot = slot
        self.child = child
        self._port = port
        self._changed = changed
        self._phase = Phase.STARTING
        self._since = time.monotonic()
        self._status: ServerStatus | None = None
        self._silence = 0.0
        self.ready_since: float | None = None
        """When it became ready for the first time; monotonic seconds."""

    @classmethod
    async def start(
        cls,
        slot: Slot,
        manifest: Path,
        threads: int,
        say: Say,
        changed: Callable[[], None],
        *,
        environment: Mapping[str, str],
    ) -> "Server":
        """Start a server on a free port of loopback: the socket is bound here and inherited, so no one else
        can take the port in between."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((LOOPBACK, 0))
            listener.listen(BACKLOG)
            argv = (
                sys.executable, "-m", "rerank_server", "--manifest", str(manifest),
                "--fd", str(listener.fileno()), "--threads", str(threads), "--log-level", "warning",
            )  # fmt: skip
            variables = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
            command = Command(argv, (listener.fileno(),), variables)
            child = await Child.start(command, say)
            port: int = listener.getsockname()[1]
        return cls(slot, child, port, changed)

    def observed(self) -> Replica:
        """Return what is known at this moment."""
        return Replica(
            self.child.pid, self.slot, self._port, self._phase, self._since, self._status, self._silence
        )

    async def follow(self, client: httpx.AsyncClient) -> None:
        """Ask for its status again and again, often until it is ready; runs until it is cancelled."""
        while True:
            asked = time.monotonic()
            status = await self._ask(client)
            waited = min(time.monotonic() - asked, ANSWER_S)
            pause = ASK_WHILE_READY_S if self._phase is Phase.READY else ASK_WHILE_STARTING_S
            if status is not None:
                self._take(status)
            else:
                self._silence += waited
                self._changed()
            await asyncio.sleep(pause)

    def leave(self) -> None:
        """Take it out of the traffic."""
        self._to(Phase.LEAVING)

    def stop(self) -> None:
        """Ask it to finish what it has and end."""
        self._to(Phase.DRAINING)
        self.child.terminate()

    async def _ask(self, client: httpx.AsyncClient) -> ServerStatus | None:
        with contextlib.suppress(httpx.HTTPError, ValidationError):
            answer = await client.get(f"http://{LOOPBACK}:{self._port}/status", timeout=ANSWER_S)
            return ServerStatus.model_validate_json(answer.content)
        return None

    def _take(self, status: ServerStatus) -> None:
        self._silence = 0.0
        if status == self._status:
            return
        self._status = status
        if self._phase is Phase.STARTING and status.state is ServerState.READY:
            self.ready_since = time.monotonic()
            self._to(Phase.READY)
        elif self._phase in {Phase.STARTING, Phase.READY} and status.state is ServerState.DRAINING:
            self._to(Phase.DRAINING)  # someone else asked it to
        elif self._phase is Phase.READY and status.state is not ServerState.READY:
            self._to(Phase.STARTING)  # its scores turned out wrong, and it loads the model anew
        else:
            self._changed()

    def _to(self, phase: Phase) -> None:
        self._phase, self._since = phase, time.monotonic()
        self._changed()
