"""The servers of one machine: does what the plan says, and remembers what only time can tell."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from rerank_cli.up.backoff import Crash, after_end
from rerank_cli.up.plan import DRAIN_S, Action, Kill, Leave, Start, Stop, plan, versions_to_run
from rerank_cli.up.servers import Server
from rerank_cli.up.view import View, ended
from rerank_cli.up.world import Phase, Slot, Version, World, slots
from rerank_server.engine.threads import usable_cores


class Fleet:
    """Every server process. `changed` is called whenever one becomes different."""

    def __init__(
        self,
        run_dir: Path,
        client: httpx.AsyncClient,
        view: View,
        changed: Callable[[], None],
        environment: Mapping[str, str],
    ) -> None:
        """`environment` is what servers have of variables besides those of this process."""
        self._run_dir = run_dir
        self._client = client
        self._view = view
        self._changed = changed
        self._environment = environment
        self._servers: dict[int, Server] = {}
        self._followers: set[asyncio.Task[None]] = set()
        self._serving: dict[str, Version] = {}
        self._crashes: dict[Slot, Crash] = {}
        self._stopping = False

    def world(self, wanted: tuple[Version, ...]) -> World:
        """Return what is known at this moment."""
        replicas = tuple(server.observed() for server in self._servers.values())
        return World(wanted, dict(self._serving), replicas, dict(self._crashes))

    async def step(self, wanted: tuple[Version, ...]) -> float | None:
        """Do what is due on the way to `wanted`; return when to come again even without any change."""
        now = time.monotonic()
        decided = plan(self.world(wanted), now)
        self._serving = dict(decided.serving)
        versions = versions_to_run(wanted, self._serving)
        places = {slot for version in versions for slot in slots(version)}
        # Not counted: what is being replaced. It goes, and what comes keeps its threads for good.
        lasting = sum(version.replicas for version in wanted)
        self._crashes = {slot: crash for slot, crash in self._crashes.items() if slot in places}
        threads = max(1, usable_cores() // max(1, lasting))
        for action in decided.actions:
            await self._act(action, threads)
        return decided.wake_at

    def stopping(self) -> None:
        """Start nothing again from now on."""
        self._stopping = True

    async def drain(self) -> bool:
        """Ask every server to finish what it has, and kill what takes too long; say whether all finished."""
        for server in self._servers.values():
            server.stop()
        if self._followers:
            await asyncio.wait(self._followers, timeout=DRAIN_S)
        finished = not self._servers
        for server in self._servers.values():
            self._view.warn(f"{label(server.slot)}: the server had not ended after {DRAIN_S:.0f} s.")
        await self.kill()
        return finished

    async def kill(self) -> None:
        """End every server now, and wait until none is left."""
        for server in self._servers.values():
            server.stop()
            server.child.kill()
        if self._followers:
            await asyncio.wait(self._followers)

    async def _act(self, action: Action, threads: int) -> None:
        match action:
            case Start(slot, version):
                await self._start(slot, version, threads)
            case Leave(pid) | Stop(pid) | Kill(pid) if pid not in self._servers:
                pass  # it has ended since the plan was made
            case Leave(pid):
                self._servers[pid].leave()
            case Stop(pid):
                self._servers[pid].stop()
            case Kill(pid, why):
                self._view.warn(f"{label(self._servers[pid].slot)}: the server {why}, so it is killed.")
                self._servers[pid].child.kill()

    async def _start(self, slot: Slot, version: Version, threads: int) -> None:
        manifest = self._run_dir / f"{slot.model}-{slot.fingerprint}.json"
        name = label(slot)
        try:
            self._run_dir.mkdir(mode=0o700, exist_ok=True)
            manifest.write_text(version.manifest, encoding="utf-8")
            server = await Server.start(
                slot,
                manifest,
                threads,
                lambda line: self._view.line(name, line),
                self._changed,
                environment=self._environment,
            )
        except OSError as error:
            self._crashed(slot, f"could not be started: {error.strerror}", None, ())
            return
        self._servers[server.child.pid] = server
        follower = asyncio.create_task(self._follow(server))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def _follow(self, server: Server) -> None:
        asking = asyncio.create_task(server.follow(self._client))
        try:
            how = await server.child.ended()
        finally:
            asking.cancel()
            del self._servers[server.child.pid]
        if server.observed().phase not in {Phase.LEAVING, Phase.DRAINING}:
            self._crashed(server.slot, how, server.ready_since, server.child.last_lines())
        self._changed()

    def _crashed(self, slot: Slot, how: str, ready_since: float | None, last: tuple[str, ...]) -> None:
        now = time.monotonic()
        if self._stopping:
            self._view.warn(f"{label(slot)}: its server {how}.")
            return
        crash = after_end(self._crashes.get(slot), how, ready_since=ready_since, now=now)
        self._crashes[slot] = crash
        self._view.warn(ended(f"{label(slot)}: its server", how, crash.retry_at - now, last))


def label(slot: Slot) -> str:
    """Name a server for people."""
    return f"{slot.model}/{slot.index}"
