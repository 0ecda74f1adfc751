"""The local runner's loop: gather, plan, act, until it is asked to stop; then drain."""

import asyncio
import contextlib
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from rerank_api.status import ModelState
from rerank_cli.up import gateway, manifests, watch
from rerank_cli.up.attempt import Attempt
from rerank_cli.up.fleet import Fleet
from rerank_cli.up.keeper import Keeper
from rerank_cli.up.listen import Listen
from rerank_cli.up.plan import DRAIN_S
from rerank_cli.up.processes import Command
from rerank_cli.up.standing import Standing, as_routed, served, standings
from rerank_cli.up.tracing import server_environment
from rerank_cli.up.view import View
from rerank_gateway import state_file
from rerank_gateway.models import View as Told
from rerank_gateway.tls import CERTIFICATE
from rerank_gateway.tracing import Tracing

WRITE_AGAIN_S = 1.0
ASK_GATEWAY_S = 0.05
RENEW_S = 5.0
"""For what is under way when the gateway has to start anew."""
END_S = 10.0
"""For a process that was asked to end and has nothing left to do."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """How to run, as opposed to what to run."""

    paths: tuple[Path, ...]
    """Manifests, and directories of manifests."""
    listen: Listen
    run_dir: Path
    attempt: Attempt | None = None
    """A request to send once, when the models are ready."""
    tracing: Tracing | None = None
    """Where spans of requests go."""


async def run(settings: Settings, read: manifests.Read, view: View) -> bool:
    """Serve until SIGINT, SIGTERM or SIGHUP, then drain; say whether every request could be finished.

    A second signal ends everything at once. However this ends, no child is left.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        supervisor = Supervisor(settings, read, view, client)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.asked_to_stop, number)
        try:
            await supervisor.serve()
            return await supervisor.drain()
        finally:
            await supervisor.kill()


class Supervisor:
    """Keeps servers and gateway in step with the manifests."""

    def __init__(
        self, settings: Settings, read: manifests.Read, view: View, client: httpx.AsyncClient
    ) -> None:
        self._settings = settings
        self._view = view
        self._read = read
        self._wanted = manifests.versions(read)
        self._created: dict[str, int] = {}
        self._asks_for_keys = bool(read.consumers)
        self._published: Told | None = None
        self._untold = False
        self._listed: Mapping[tuple[str, str], ModelState] = {}
        self._unrouted = asyncio.Event()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        environment = server_environment(settings.tracing)
        self._fleet = Fleet(settings.run_dir, client, view, self._changed.set, environment)
        gateway.require_envoy()
        self._envoy = self._keep("envoy", self._prepare_envoy, gateway.ENVOY_ANSWERS)
        self._agent = self._keep("agent", self._prepare_agent, gateway.AGENT_ANSWERS)

    def asked_to_stop(self, number: signal.Signals) -> None:
        """Drain; asked again, stop at once."""
        if self._stop.is_set():
            self._hurry.set()
        else:
            self._view.say(f"{number.name}: draining; what is under way is finished. Again stops at once.")
        self._stop.set()
        self._changed.set()

    async def serve(self) -> None:
        """Serve until asked to stop."""
        self._publish()
        for work in (
            self._agent.run(),
            self._run_envoy(),
            self._follow_manifests(),
            self._follow_gateway(),
            self._greet(),
        ):
            self._in_background(work)
        while not self._stop.is_set():
            self._changed.clear()
            wake_at = await self._fleet.step(self._wanted)
            self._publish()
            await self._news(wake_at)

    async def drain(self) -> bool:
        """Stop in the order that lets what is under way be answered; say whether there was time for it."""
        self._fleet.stopping()
        self._agent.stopping()
        self._envoy.stopping()
        await self._unless_hurried(gateway.drain(self._settings.run_dir, DRAIN_S))
        finished = await self._unless_hurried(self._fleet.drain())
        await self._unless_hurried(self._envoy.end(END_S))
        await self._unless_hurried(self._agent.end(END_S))
        return bool(finished) and not self._hurry.is_set()

    async def kill(self) -> None:
        """End every process that is left, now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self._fleet.kill(), self._envoy.end(0), self._agent.end(0))

    def _publish(self) -> None:
        """Tell the user and the gateway how the models stand."""
        models = standings(self._fleet.world(self._wanted))
        shown = self._as_routed(models)
        self._view.show(shown)
        for model in models:
            self._created.setdefault(model.model, int(time.time()))
        owners: defaultdict[str, set[str]] = defaultdict(set)
        for version in self._wanted:
            for name in version.names:
                owners[name].add(version.model)
        entries = served(models, owners, self._created)
        told = Told(entries, self._read.consumers)
        if told != self._published and self._write_state(told):
            self._published = told
        if self._settings.attempt is not None and self._settings.attempt.is_due(shown):
            self._due.set()

    def _as_routed(self, models: tuple[Standing, ...]) -> tuple[Standing, ...]:
        """Return how the models are shown, and have the gateway asked while it lags behind the servers."""
        # What has stopped to be ready is asked about anew once it is ready again.
        ready = {(name, model.model) for model in models if model.ports for name in model.names}
        self._listed = {which: state for which, state in self._listed.items() if which in ready}
        listed = self._listed if self._envoy.up.is_set() else {}
        shown = tuple(as_routed(model, listed) for model in models)
        if shown != models:
            self._unrouted.set()
        else:
            self._unrouted.clear()
        return shown

    def _write_state(self, told: Told) -> bool:
        """Tell the agent; where that fails, say so and have it tried again."""
        try:
            self._settings.run_dir.mkdir(mode=0o700, exist_ok=True)
            state_file.write(gateway.state_file(self._settings.run_dir), told)
        except OSError as error:
            if not self._untold:
                self._view.warn(
                    f"The gateway cannot be told of the models: {error}. It serves what it knows."
                )
            self._untold = True
            asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._changed.set)
            return False
        self._untold = False
        return True

    def _prepare_agent(self) -> Command:
        """Have the state file there, whatever became of the run directory."""
        self._write_state(self._published or Told())
        return gateway.agent_command(self._settings.run_dir)

    def _prepare_envoy(self) -> Command:
        self._settings.run_dir.mkdir(mode=0o700, exist_ok=True)
        return gateway.envoy_command(
            self._settings.run_dir,
            self._settings.listen,
            auth=self._asks_for_keys,
            tracing=self._settings.tracing,
        )

    async def _news(self, wake_at: float | None) -> None:
        """Return when something has changed or is due; raise what ended a background task."""
        limit = None if wake_at is None else max(0.0, wake_at - time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), limit)
        for task in self._tasks:
            if task.done() and (error := task.exception()):
                raise error

    async def _run_envoy(self) -> None:
        await self._agent.up.wait()
        await self._envoy.run()

    async def _follow_manifests(self) -> None:
        async for _ in watch.changes(self._settings.paths):
            before = self._read
            self._read = await manifests.read_again(self._settings.paths, before)
            self._tell_problems(before)
            self._wanted = manifests.versions(self._read)
            self._changed.set()
            if self._read.consumers and not self._asks_for_keys:
                await self._ask_for_keys()

    def _tell_problems(self, before: manifests.Read) -> None:
        now = self._read
        if now.problems and now.problems != before.problems:
            told = "\n".join(map(str, now.problems))
            self._view.warn(f"{told}\nWhat was read from there before stays as it is.")
        if now.unusable and now.unusable != before.unusable:
            told = "\n".join(map(str, now.unusable))
            self._view.warn(f"{told}\nNo such key lets anybody in.")

    async def _ask_for_keys(self) -> None:
        """Have Envoy started anew, because a consumer has come. That the last one goes opens nothing."""
        self._view.say("There is a consumer now: the gateway starts anew, and asks for keys from then on.")
        self._asks_for_keys = True
        await gateway.drain(self._settings.run_dir, RENEW_S)
        await self._envoy.renew(END_S)

    async def _follow_gateway(self) -> None:
        """Ask what the gateway lists while a model that is ready is not routed yet."""
        while True:
            await self._unrouted.wait()
            await self._envoy.up.wait()
            self._listed = await gateway.listed(self._settings.run_dir)
            self._changed.set()
            await asyncio.sleep(ASK_GATEWAY_S)

    async def _greet(self) -> None:
        """Say where to send requests once that makes sense, and send the one to try."""
        await self._envoy.up.wait()
        url, tls_dir = self._settings.listen.url, self._settings.listen.tls_dir
        keys = " It asks for keys." if self._asks_for_keys else ""
        self._view.say(f"The gateway answers on {url}: POST /v1/rerank, GET /v1/models.{keys}")
        if self._settings.attempt is not None:
            await self._due.wait()
            certificate = None if tls_dir is None else tls_dir / CERTIFICATE
            await self._settings.attempt.make(url, self._view, certificate)

    def _keep(self, name: str, prepare: Callable[[], Command], answers: gateway.Answers) -> Keeper:
        run_dir = self._settings.run_dir
        return Keeper(
            name,
            prepare,
            lambda: gateway.answers(run_dir, answers),
            self._view,
            routine=gateway.ROUTINE,
        )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._changed.set())
        self._tasks.append(task)

    async def _unless_hurried(self, work: Awaitable[Result]) -> Result | None:
        """Return what `work` does, or None as soon as the user does not want to wait for it any more."""
        doing = asyncio.ensure_future(work)
        hurrying = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((doing, hurrying), return_when=asyncio.FIRST_COMPLETED)
        for task in (doing, hurrying):
            task.cancel()
        await asyncio.gather(hurrying, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            return await doing
        return None
