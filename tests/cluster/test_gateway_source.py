"""The gateway's source before a real API server that is stopped, killed, frozen, compacted and restored."""

import asyncio
import contextlib
import itertools
import resource
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from rerank_api.status import ModelState
from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.api import KubernetesApi
from rerank_gateway.kubernetes.reflector import Pace, Reflector
from rerank_gateway.kubernetes.source import KubernetesSource
from rerank_gateway.models import View
from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver_objects import (
    AGENT,
    AGENT_RULES,
    MODELS,
    RBAC,
    SLICES,
    add,
    allow,
    clear,
    endpoint_slice,
    model,
    remove,
)

pytestmark = pytest.mark.anyio

QUICK = Pace(watch_s=4, late_s=2, first_pause_s=0.05, longest_pause_s=0.5, calm_s=1, page=50)
PATIENCE_S = 600.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the custom resources, and a user that may do what the agent may."""
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    server.tokens |= {AGENT: "agents", "another-agent": "agents", "stranger": "strangers"}
    try:
        server.start()
        server.install()
        allow(server, "agents", AGENT_RULES)
        yield server
    finally:
        server.end()


@pytest.fixture
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    """The API server, running, without any model or slice."""
    api_server.start()
    clear(api_server)
    yield api_server
    api_server.start()


class Follower:
    """Takes every view of a source."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self._news = asyncio.Event()

    async def follow(self, source: KubernetesSource) -> None:
        async with contextlib.aclosing(source.views()) as views:
            async for view in views:
                self.views.append(view)
                self._news.set()

    @property
    def told(self) -> dict[str, tuple[str, ...]]:
        """The addresses by public name, as last told."""
        return {each.name: tuple(e.address for e in each.endpoints) for each in self.views[-1].models}

    async def more(self, than: int) -> None:
        """Wait until there are more views."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.views) <= than:
                await self._news.wait()
                self._news.clear()

    async def until(self, **told: tuple[str, ...]) -> None:
        """Wait until exactly these names are told, with these addresses."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.views or self.told != told:
                    await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            pytest.fail(f"waited {PATIENCE_S:g} s for {told}; told is {self.told if self.views else None}")


@pytest.fixture
async def follow(server: ApiServer) -> AsyncIterator[Callable[..., Follower]]:
    """Follow the API server, as the agent's user unless another is named."""
    tasks = []

    def following(token: str = AGENT, pace: Pace = QUICK, url: str = "", **more: Any) -> Follower:
        kubeconfig = server.kubeconfig(token)
        if url:
            kubeconfig.write_text(kubeconfig.read_text().replace(server.url, url))
        source = KubernetesSource(KubernetesApi(kubeconfig), pace=pace, **more)
        follower = Follower()
        tasks.append(asyncio.create_task(follower.follow(source)))
        return follower

    yield following
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_models_and_replicas_that_come_change_and_go_are_told(server, follow):
    add(server, "a", "10.1.0.1")
    follower = follow()
    await follower.until(a=("10.1.0.1",))
    add(server, "b", "10.1.0.2", "10.1.0.3", namespace="web")
    await follower.until(a=("10.1.0.1",), b=("10.1.0.2", "10.1.0.3"))
    server.ask("PUT", f"{SLICES.format('rag')}/a-1", endpoint_slice("a")).raise_for_status()
    await follower.until(a=(), b=("10.1.0.2", "10.1.0.3"))
    assert {each.model: each.state for each in follower.views[-1].models} == {
        "rag/a": ModelState.PENDING,
        "web/b": ModelState.READY,
    }
    patch = {"spec": {"names": ["x", "BAAI/x"]}}
    server.ask("PATCH", f"{MODELS.format('rag')}/a", patch, "merge-patch+json").raise_for_status()
    await follower.until(**{"x": (), "BAAI/x": (), "b": ("10.1.0.2", "10.1.0.3")})
    remove(server, "b", "web")
    await follower.until(**{"x": (), "BAAI/x": ()})


async def test_a_model_that_waits_for_a_finalizer_is_gone_at_once(server, follow):
    held = model("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    server.ask("POST", MODELS.format("rag"), held).raise_for_status()
    follower = follow()
    await follower.until(held=())
    path = f"{MODELS.format('rag')}/held"
    server.ask("DELETE", path).raise_for_status()
    await follower.until()
    free = {"metadata": {"finalizers": None}}
    server.ask("PATCH", path, free, "merge-patch+json").raise_for_status()


async def test_a_slice_that_loses_the_label_has_no_replicas(server, follow):
    add(server, "a", "10.1.0.1")
    follower = follow()
    await follower.until(a=("10.1.0.1",))
    patch = {"metadata": {"labels": {objects.MODEL_LABEL: None}}}
    server.ask("PATCH", f"{SLICES.format('rag')}/a-1", patch, "merge-patch+json").raise_for_status()
    await follower.until(a=())


async def test_nothing_is_told_before_every_list_is_complete(server, follow, caplog):
    for i in range(120):  # more than two pages
        add(server, f"m{i}", "10.1.0.1")
    follower = follow("stranger")

    async def logged(words: str, times: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while sum(words in one.message for one in caplog.records) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    with caplog.at_level("INFO"):
        await logged("cannot list resource", 2)
        assert follower.views == []
        allow(server, "strangers", AGENT_RULES[:1])
        await logged("following /apis/rerank.dev/v1alpha1/rerankmodels again", 1)
    await asyncio.sleep(2)
    assert follower.views == []
    complaints = [one.message for one in caplog.records if "cannot list resource" in one.message]
    for kind in ("rerankmodels", "endpointslices"):
        told = [words for words in complaints if f"/{kind}," in words]
        assert told
        assert all(one != following for one, following in itertools.pairwise(told))  # each once
    server.ask("DELETE", f"{RBAC}/clusterroles/strangers-may").raise_for_status()
    server.ask("DELETE", f"{RBAC}/clusterrolebindings/strangers-may").raise_for_status()
    allow(server, "strangers", AGENT_RULES)
    await follower.until(**{f"m{i}": ("10.1.0.1",) for i in range(120)})
    assert len(follower.views) == 1


async def test_only_the_given_namespaces_are_followed_with_no_right_to_others(server, follow):
    add(server, "a", "10.1.0.1", namespace="rag")
    add(server, "b", "10.1.0.2", namespace="web")
    server.tokens |= {"of-rag": "of-rag"}
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    allow(server, "of-rag", AGENT_RULES, namespace="rag")
    follower = follow("of-rag", namespaces=("rag",))
    await follower.until(a=("10.1.0.1",))
    both = follow(namespaces=("rag", "web"))
    await both.until(a=("10.1.0.1",), b=("10.1.0.2",))
    remove(server, "b", "web")
    await both.until(a=("10.1.0.1",))
    assert len(follower.views) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
async def test_what_happened_while_nobody_answered_is_told_and_what_stayed_is_never_taken_away(
    server, follow, how
):
    add(server, "stays", "10.1.0.1")
    add(server, "goes", "10.1.0.2")
    follower = follow()
    await follower.until(stays=("10.1.0.1",), goes=("10.1.0.2",))

    await asyncio.to_thread(server.stop, how)
    await asyncio.sleep(1)
    second = ApiServer.beside(server)
    await asyncio.to_thread(second.start)
    remove(second, "goes")
    add(second, "comes", "10.1.0.3")
    await asyncio.to_thread(second.stop)
    await asyncio.sleep(0.5)
    assert follower.told == {"stays": ("10.1.0.1",), "goes": ("10.1.0.2",)}

    await asyncio.to_thread(server.start)
    await follower.until(stays=("10.1.0.1",), comes=("10.1.0.3",))
    assert all("stays" in {each.name for each in view.models} for view in follower.views)


async def test_a_cluster_that_is_restored_before_anyone_notices_is_followed_there(server, follow):
    add(server, "old", "10.1.0.1")
    server.pause()
    saved = server.directory / "saved"
    shutil.copytree(server.directory / "etcd", saved)
    server.start()
    follower = follow()
    await follower.until(old=("10.1.0.1",))
    for _ in range(20):  # so that the versions that were seen are far ahead of those to come
        add(server, "new", "10.1.0.2")
        remove(server, "new")
    add(server, "new", "10.1.0.2")
    await follower.until(old=("10.1.0.1",), new=("10.1.0.2",))

    # Nothing of the source runs until the server is back: it sees a watch that ended, and asks for the next.
    server.pause()
    shutil.rmtree(server.directory / "etcd")
    saved.rename(server.directory / "etcd")
    server.start()
    await follower.until(old=("10.1.0.1",))
    add(server, "newer", "10.1.0.3")
    await follower.until(old=("10.1.0.1",), newer=("10.1.0.3",))


async def test_versions_that_etcd_has_forgotten_are_listed_anew(server):
    add(server, "a", "10.1.0.1")
    server.compact()
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    listed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Sink:
        def put(self, key: objects.Key, new: Any) -> None:
            raise AssertionError("the watch was refused, so it tells nothing")

        def replace(self, objects: Any) -> None:
            listed.set_result(objects)

    api = KubernetesApi(server.kubeconfig(AGENT))
    path = "/apis/rerank.dev/v1alpha1/rerankmodels"
    reflector = Reflector(api, path, objects.model, Sink(), pace=QUICK)
    reflector._version = "1"
    running = asyncio.create_task(reflector.run())
    assert list(await asyncio.wait_for(listed, PATIENCE_S)) == [("rag", "a")]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert reflector.listed


class Proxy:
    """Stands between agent and API server, and can fall silent on the connections that it has."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Event] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def mute(self) -> None:
        """Pass nothing on any more on the connections that there are; new ones work."""
        for event in self._silent:
            event.set()

    async def end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mute = asyncio.Event()
        self._silent.add(mute)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, upstream_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while part := await source.read(1 << 16):
                    if mute.is_set():
                        await asyncio.Event().wait()
                    sink.write(part)
                    await sink.drain()
            writer.close()
            upstream_writer.close()

        for pair in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(pump(*pair))
            self._tasks.add(task)


async def test_a_watch_that_falls_silent_is_noticed(server, follow):
    proxy = Proxy(int(server.url.rpartition(":")[2]))
    await proxy.start()
    add(server, "a", "10.1.0.1")
    follower = follow(pace=Pace(watch_s=3, late_s=1, first_pause_s=0.05, longest_pause_s=0.5), url=proxy.url)
    await follower.until(a=("10.1.0.1",))
    proxy.mute()
    add(server, "b", "10.1.0.2")
    await follower.until(a=("10.1.0.1",), b=("10.1.0.2",))
    await proxy.end()


async def test_an_api_server_that_stands_still_for_a_while_is_followed_again(server, follow):
    add(server, "a", "10.1.0.1")
    follower = follow(pace=Pace(watch_s=2, late_s=1, first_pause_s=0.05, longest_pause_s=0.5))
    await follower.until(a=("10.1.0.1",))
    server.freeze()
    await asyncio.sleep(5)
    server.thaw()
    add(server, "b", "10.1.0.2")
    await follower.until(a=("10.1.0.1",), b=("10.1.0.2",))


async def test_a_token_that_is_replaced_on_disk_is_used_from_then_on(server, follow):
    add(server, "a", "10.1.0.1")
    follower = follow()
    await follower.until(a=("10.1.0.1",))
    (server.directory / f"{AGENT}.token").write_text("another-agent")
    kept = server.tokens.pop(AGENT)
    try:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        add(server, "b", "10.1.0.2")
        await follower.until(a=("10.1.0.1",), b=("10.1.0.2",))
    finally:
        server.tokens[AGENT] = kept
        await asyncio.to_thread(server.stop)


async def test_what_2000_models_cost_and_how_soon_one_more_is_told(server, follow):
    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    with server.client() as client:
        for i in range(2000):
            client.post(MODELS.format("rag"), json=model(f"m{i}")).raise_for_status()
            client.post(
                SLICES.format("rag"), json=endpoint_slice(f"m{i}", f"10.2.{i // 250}.{i % 250 + 1}")
            ).raise_for_status()
    began, used = time.monotonic(), cpu()
    follower = follow(pace=Pace())
    await follower.more(0)
    print(f"\nfirst view of 2000 models: {time.monotonic() - began:.2f} s, {cpu() - used:.2f} s of CPU")
    assert len(follower.views[0].models) == 2000

    delays = []
    with server.client() as client:
        for i in range(20):
            seen, name = len(follower.views), f"one-more-{i}"
            answer = await asyncio.to_thread(client.post, MODELS.format("rag"), json=model(name))
            answer.raise_for_status()
            began = time.monotonic()
            await follower.more(seen)
            delays.append(time.monotonic() - began)
    delays.sort()
    print(
        f"one more model is told after {delays[10] * 1000:.0f} ms (median), {delays[-1] * 1000:.0f} ms (most)"
    )

    used, seen = cpu(), len(follower.views)
    with server.client() as client:
        for i in range(500):
            body = {"status": {"state": "Ready", "message": f"Told {i} times."}}
            path = f"{MODELS.format('rag')}/m{i % 10}/status"
            answer = await asyncio.to_thread(
                client.patch, path, json=body, headers={"content-type": "application/merge-patch+json"}
            )
            answer.raise_for_status()
    print(
        f"500 changes: {len(follower.views) - seen} views, {cpu() - used:.2f} s of CPU, the writing included"
    )
