"""The two containers of a gateway's pod: how they start, and how they end without losing a request."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from rerank_gateway import admin, envoy_binary, state_file
from rerank_gateway.models import View
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio

NOTICE_S = 2.0
"""In place of ten seconds: how long a load balancer may take to notice."""
LINGER_S = 600
"""How long an agent waits for its Envoy to end: longer than any of these tests."""
LONG_NOTICE_S = 10.0
"""Where the load balancer has to be told in time, be the machine ever so busy."""
PATIENCE_S = 120
BODY = {"model": "m", "query": "q", "documents": ["d"]}


async def active(pod):
    """Say whether Envoy has a request that is not answered."""
    transport = httpx.AsyncHTTPTransport(uds=str(pod.admin))
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
        told = await client.get(
            "http://envoy/stats", params={"filter": r"^http\.gateway\.downstream_rq_active$"}
        )
    return int(told.text.split(": ")[1]) > 0


def command(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


@dataclass
class Pod:
    """Both containers on one socket directory, and what kubelet does with them."""

    directory: Path
    process: object
    models: tuple
    port: int = field(default_factory=free_port)
    log: Path = Path()
    notice_s: float = NOTICE_S

    def __post_init__(self):
        self.directory.mkdir(exist_ok=True)
        where = ("--socket-dir", str(self.directory))
        state = self.directory / "state.json"
        state_file.write(state, View(self.models))
        self.agent = self.process("agent", "--state-file", str(state), *where, "--linger-s", str(LINGER_S))
        listen = ("--listen", f"127.0.0.1:{self.port}", "--concurrency", "1")
        self.envoy = self.process("envoy", *where, *listen, "--access-log", "/dev/stdout")
        self.pre_stop = self.process("drain", *where, "--limit-s", "120", "--notice-s", str(self.notice_s))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self):
        return self.directory / "admin.sock"

    async def start(self):
        await self.envoy.start()
        await self.agent.start()

    async def ready(self):
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(verify=False, timeout=PATIENCE_S) as client:
                return (await client.get(f"{self.url}/healthz")).status_code == 200
        return False

    async def stop(self):
        """End the pod as kubelet does; return the exit codes of the hook, of Envoy and of the agent."""
        await self.pre_stop.start()
        agent = asyncio.create_task(self.agent.end(signal.SIGTERM))
        hook = await self.pre_stop.child.wait()
        return hook, await self.envoy.end(signal.SIGTERM), await agent


@contextlib.asynccontextmanager
async def under_way(url):
    """Have a request under way, whose body is not complete before the block ends; it is answered with 200."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(BODY).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/rerank HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:-1])
    await writer.drain()
    yield
    writer.write(body[-1:])
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def pod(socket_dir, process, replica, served, until):
    """A pod whose model `m` has one replica."""
    made = Pod(socket_dir, process, (served("m", (await replica("only")).port),))
    await made.start()
    await until(made.ready, "the pod to be ready")
    return made


async def test_envoy_waits_for_an_agent_that_is_late_and_has_become_the_process_that_was_started(
    socket_dir, process, served, until
):
    made = Pod(socket_dir, process, (served("m"),))
    await made.envoy.start()

    async def envoy_lives():
        return await admin.lives(made.admin)

    await until(envoy_lives, "Envoy's administration")
    assert command(made.envoy.child.pid) == "envoy"
    assert not await made.ready()
    await made.agent.start()
    await until(made.ready, "the pod to be ready")


async def test_a_killed_envoy_is_followed_by_another_in_the_same_directory(pod, until):
    await pod.envoy.end(signal.SIGKILL)
    assert pod.admin.is_socket()
    assert not await admin.lives(pod.admin)
    await pod.envoy.start()
    await until(pod.ready, "the pod to be ready again")


async def test_the_access_log_comes_on_standard_output(pod, until):
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE_S) as client:
        await client.post(f"{pod.url}/v1/rerank", json=BODY)

    async def logged():
        lines = [line for line in pod.envoy.said().splitlines() if line.startswith("{")]
        return next((line for line in map(json.loads, lines) if line["model"] == "m"), None)

    assert (await until(logged, "the line of the request"))["status"] == 200


async def test_a_draining_envoy_says_so_takes_requests_a_while_and_closes_kept_connections(pod, until):
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(verify=False, base_url=pod.url, limits=limits, timeout=PATIENCE_S) as client:
        before = await client.post("/v1/rerank", json=BODY)
        assert "connection" not in before.headers

        async def draining():
            return (await client.get("/healthz")).status_code == 503

        async with under_way(pod.url):  # so that the drain goes on, however long all of this takes
            await until(lambda: active(pod), "Envoy to have the request")
            await pod.pre_stop.start()
            await until(draining, "the health check to fail")
            assert (await client.get("/healthz")).json() == {"status": "draining"}
            answer = await client.post("/v1/rerank", json=BODY)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert await pod.pre_stop.child.wait() == 0
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_the_drain_goes_on_while_requests_come_and_until_the_last_is_answered(pod):
    async with httpx.AsyncClient(verify=False, base_url=pod.url, timeout=PATIENCE_S) as client:
        await pod.pre_stop.start()
        began = time.monotonic()
        while time.monotonic() < began + NOTICE_S + admin.QUIET_S + 1:
            assert (await client.post("/v1/rerank", json=BODY)).status_code == 200
            await asyncio.sleep(0.1)
        assert pod.pre_stop.child.returncode is None
        assert await pod.pre_stop.child.wait() == 0


async def test_health_checks_do_not_hold_the_drain_up(pod):
    async def checks():
        async with httpx.AsyncClient(verify=False, base_url=pod.url, timeout=PATIENCE_S) as client:
            with contextlib.suppress(httpx.TransportError):
                while True:
                    await client.get("/healthz")
                    await asyncio.sleep(0.1)

    checking = asyncio.create_task(checks())
    await pod.pre_stop.start()
    assert await asyncio.wait_for(pod.pre_stop.child.wait(), PATIENCE_S) == 0
    await checking


async def test_a_request_that_outlasts_the_limit_is_told_in_a_sentence(socket_dir, process, served, until):
    arrived, over = asyncio.Event(), asyncio.Event()

    async def silence(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await over.wait()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    pod = Pod(socket_dir, process, (served("m", silent.sockets[0].getsockname()[1]),))
    await pod.start()
    await until(pod.ready, "the pod to be ready")
    async with httpx.AsyncClient(verify=False, base_url=pod.url, timeout=PATIENCE_S) as client:
        asking = asyncio.create_task(client.post("/v1/rerank", json=BODY))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        hook = process("drain", "--socket-dir", str(socket_dir), "--limit-s", "1", "--notice-s", "0")
        await hook.start()
        assert await hook.child.wait() == 1
        assert hook.said() == "Requests are still under way after 1 s; they will be cut off.\n"
        over.set()
        assert (await asking).status_code == 503
    silent.close()
    await silent.wait_closed()


async def test_where_no_envoy_is_there_is_nothing_to_drain(socket_dir, process):
    hook = process("drain", "--socket-dir", str(socket_dir))
    await hook.start()
    assert await asyncio.wait_for(hook.child.wait(), PATIENCE_S) == 0
    assert hook.said() == ""


async def test_an_agent_that_is_told_to_end_goes_on_until_envoy_is_gone(pod, until, served):
    pod.agent.child.send_signal(signal.SIGTERM)
    await asyncio.sleep(1)
    state_file.write(pod.directory / "state.json", View((*pod.models, served("late"))))
    async with httpx.AsyncClient(verify=False, base_url=pod.url, timeout=PATIENCE_S) as client:

        async def listed():
            return (await client.get("/v1/models/late")).status_code == 200

        await until(listed, "a model that came after the signal")
    assert pod.agent.child.returncode is None
    await pod.envoy.end(signal.SIGTERM)
    assert await asyncio.wait_for(pod.agent.child.wait(), PATIENCE_S) == 0


async def test_an_agent_lingers_no_longer_than_it_was_given_and_not_past_a_second_signal(pod, process, until):
    async def ended():
        """Whether it has ended, having been told once more: of two signals at once it may see one."""
        if pod.agent.child.returncode is None:
            pod.agent.child.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
        return pod.agent.child.returncode is not None

    pod.agent.child.send_signal(signal.SIGTERM)
    await asyncio.sleep(1)
    assert pod.agent.child.returncode is None
    await until(ended, "the agent to end before it has lingered")
    assert pod.agent.child.returncode == 0

    where = ("--state-file", str(pod.directory / "state.json"), "--socket-dir", str(pod.directory))
    short = process("agent", *where, "--linger-s", "1")
    await short.start()

    async def serves():
        return await admin.lives(pod.directory / "http.sock")

    await until(serves, "the second agent")
    began = time.monotonic()
    assert await asyncio.wait_for(short.end(signal.SIGTERM), PATIENCE_S) == 0
    assert time.monotonic() - began >= 1
    assert await admin.lives(pod.admin)


def test_an_agent_whose_event_loop_stands_still_ends_and_says_where():
    code = (
        "import asyncio, time\n"
        "from rerank_gateway import ending\n"
        "ending._HANG_S = 0.5\n"
        "async def stand_still():\n"
        "    hung = asyncio.create_task(ending.end_if_hung())\n"
        "    await asyncio.sleep(0)\n"
        "    time.sleep(600)\n"
        "asyncio.run(stand_still())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "stand_still" in ended.stderr


class Ingress:
    """A proxy as Contour runs one: an Envoy that keeps connections and retries nothing."""

    def __init__(self, directory, process):
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = directory / "ingress.json"
        config.write_text(json.dumps(self._bootstrap()))
        self.envoy = process("ingress")
        self.envoy.arguments = [
            *(str(envoy_binary.find()), "--config-path", str(config)),
            *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
        ]

    def send_to(self, *pods):
        """Hear, as from EndpointSlices, of the pods that take requests."""
        endpoints = [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": pod.port}}}}
            for pod in pods
        ]
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "gateway",
            "endpoints": [{"lb_endpoints": endpoints}],
        }
        part = self.directory / "eds.part"
        part.write_text(json.dumps({"resources": [assignment]}))
        part.rename(self.directory / "eds.json")

    def _bootstrap(self):
        types = "type.googleapis.com/envoy.extensions.filters"
        route = {"match": {"prefix": "/"}, "route": {"cluster": "gateway", "timeout": "0s"}}
        manager = {
            "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "ingress",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}],
        }
        source = {"path_config_source": {"path": str(self.directory / "eds.json")}}
        return {
            "node": {"id": "ingress", "cluster": "ingress"},
            "static_resources": {
                "clusters": [
                    {"name": "gateway", "type": "EDS", "eds_cluster_config": {"eds_config": source}}
                ],
                "listeners": [
                    {
                        "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}},
                        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                    }
                ],
            },
        }


async def test_a_rolling_restart_behind_an_ingress_that_notices_late_fails_no_request(
    socket_dir, process, replica, served, until
):
    model = served("m", (await replica("one")).port, (await replica("two")).port)
    pods = [Pod(socket_dir / str(i), process, (model,), notice_s=LONG_NOTICE_S) for i in range(4)]
    ingress = Ingress(socket_dir, process)
    for pod in pods[:2]:
        await pod.start()
    for pod in pods[:2]:
        await until(pod.ready, "a pod to be ready")
    ingress.send_to(*pods[:2])
    await ingress.envoy.start()

    answers, failures, over = [], [], asyncio.Event()

    async def client(pause):
        async with httpx.AsyncClient(verify=False, base_url=ingress.url, timeout=PATIENCE_S) as http:
            while not over.is_set():
                try:
                    answer = await http.post("/v1/rerank", json=BODY)
                except httpx.TransportError as error:
                    failures.append(repr(error))
                else:
                    answers.append(answer.text)
                    if answer.status_code != 200:
                        failures.append(f"{answer.status_code} {answer.text}")
                await asyncio.sleep(pause)

    async def serving():
        async with httpx.AsyncClient(verify=False, timeout=PATIENCE_S) as http:
            with contextlib.suppress(httpx.TransportError):
                return (await http.post(f"{ingress.url}/v1/rerank", json=BODY)).status_code == 200
        return False

    await until(serving, "the ingress to serve")
    # The slow ones leave the ingress with connections that are idle for about as long as anything takes.
    pauses = (0.002, 0.002, 0.01, 0.5, 0.9, 1.3, 1.9, 2.1)
    async with asyncio.TaskGroup() as clients:
        for pause in pauses:
            clients.create_task(client(pause))
        for old, new in ((pods[0], pods[2]), (pods[1], pods[3])):
            await new.start()
            await until(new.ready, "the new pod to be ready")
            serving_now = [
                pod for pod in pods if pod.envoy.child is not None and pod.envoy.child.returncode is None
            ]
            ingress.send_to(*serving_now)
            stopping = asyncio.create_task(old.stop())
            await asyncio.sleep(1)  # until here requests are still sent to it
            ingress.send_to(*(pod for pod in serving_now if pod is not old))
            assert await stopping == (0, 0, 0)

        async def enough():
            return len(answers) > 100

        await until(enough, "more than 100 answers")
        over.set()
    assert failures == []
