"""Requests for models at zero: the real Envoy with the product's bootstrap, the real agent, real replicas."""

import asyncio
import hashlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from rerank_api.status import ModelState
from rerank_gateway import release
from rerank_gateway.bounds import RETRY_AFTER_S
from tests.support.replicas import Replica

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
HOLD_S = 280
"""How long a request is held, and an answer waited for, unless that is what a test is about."""


class Ranker(Replica):
    """A replica that answers with what it received: the length and the digest of the body."""

    def __init__(self, status: int = 200, headers: str = "") -> None:
        super().__init__("ranker")
        self.received: Counter[str] = Counter()
        self._begin = f"{status} Some Reason\r\n{headers}"

    async def answer(self, head: bytes, body: bytes) -> tuple[str, bytes]:
        digest = hashlib.sha256(body).hexdigest()
        self.received[digest] += 1
        return self._begin, json.dumps({"length": len(body), "sha256": digest}).encode()


@pytest.fixture
def ranker(replica) -> Callable[..., Awaitable[Ranker]]:
    """Start replicas."""
    return lambda *arguments: replica(Ranker(*arguments))


@pytest.fixture
def gateway(product_envoy, socket_dir):
    """Envoy as the activator knows it."""
    return product_envoy(concurrency=2, release_key=release.key(socket_dir))


@pytest.fixture
def at_zero(served) -> Callable[..., object]:
    """A model that a request wakes; without ports it sleeps."""

    def make(name: str = "m", *ports: int, **fields: object) -> object:
        state = ModelState.READY if ports else ModelState.IDLE
        return served(name, *ports, **{"model": f"rag/{name}", "from_zero": True, "state": state} | fields)

    return make


class Callers:
    """Clients of one gateway, and what its agent says of who waits."""

    def __init__(self, url: str, http_socket: Path) -> None:
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(verify=False, base_url=url, limits=limits, timeout=HOLD_S)
        transport = httpx.AsyncHTTPTransport(uds=str(http_socket))
        self.agent = httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=HOLD_S)

    async def post(self, body: bytes, path: str = "/v1/rerank", **more: object) -> httpx.Response:
        return await self.client.post(path, content=body, **more)

    def ask(self, body: bytes, path: str = "/v1/rerank", **more: object) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self.post(body, path, **more))

    async def demand(self) -> dict:
        return (await self.agent.get("/demand")).json()["models"]

    async def held(self, model: str = "rag/m") -> int:
        return (await self.demand()).get(model, {"held": 0})["held"]


@pytest.fixture
async def callers(agent_process, gateway, socket_dir, until) -> AsyncIterator[Callable[..., Awaitable]]:
    """Start the agent with options and models, then Envoy; return who calls, and a way to wait for a hold."""
    made: list[Callers] = []

    async def start(*models: object, options: tuple[str, ...] = ()) -> Callers:
        agent_process.publish(*models)
        agent_process.arguments = [*agent_process.arguments, "--hold-s", str(HOLD_S), *options]
        await agent_process.start()
        await gateway.start()
        made.append(Callers(gateway.url, socket_dir / "http.sock"))
        return made[-1]

    yield start
    for each in made:
        await each.client.aclose()
        await each.agent.aclose()


@pytest.fixture
def until_held(until) -> Callable[..., Awaitable[None]]:
    """Wait until so many requests are held."""

    async def wait(callers: Callers, count: int, model: str = "rag/m") -> None:
        async def so_many() -> bool:
            return await callers.held(model) == count

        await until(so_many, f"{count} held requests")

    return wait


def body_of(size: int, model: str = "m", mark: object = 0) -> bytes:
    """A request of exactly so many bytes."""
    frame = json.dumps({"model": model, "query": str(mark), "documents": [""]}).encode()
    return frame.replace(b'[""]', b'["' + b"d" * (size - len(frame)) + b'"]')


def refused(response: httpx.Response) -> tuple[int, str, bool]:
    """What a refusal says: status, code, and whether it says when to come back, as every refusal does."""
    told = response.headers.get("retry-after")
    assert told in {None, str(RETRY_AFTER_S)}
    return response.status_code, response.json()["error"]["code"], told is not None


NOT_READY = (503, "model_not_ready", True)


@pytest.mark.parametrize(
    ("size", "named_by_header", "chunked"),
    [
        pytest.param(MIB, False, False, id="1 MiB, named in the body"),
        pytest.param(MIB, True, False, id="1 MiB, named in a header and streamed"),
        pytest.param(MIB, True, True, id="1 MiB in chunks"),
        pytest.param(10 * MIB, False, False, id="as large as may be"),
        pytest.param(10 * MIB, True, False, id="as large as may be, streamed"),
        pytest.param(100, False, False, id="small"),
    ],
)
async def test_a_request_waits_for_the_first_replica_and_arrives_there_whole(
    callers, agent_process, ranker, at_zero, until_held, size, named_by_header, chunked
):
    replica, body = await ranker(), body_of(size)
    on = await callers(at_zero())

    async def parts():
        for i in range(0, size, 65_536):
            yield body[i : i + 65_536]

    headers = {"X-GPUStack-Model": "m"} if named_by_header else {}
    asked = on.ask(parts() if chunked else body, headers=headers)
    await until_held(on, 1)
    assert (await on.demand())["rag/m"]["oldest_s"] >= 0
    assert (await on.client.get("/v1/models/m")).json()["state"] == "Idle"

    agent_process.publish(at_zero("m", replica.port))

    response = await asked
    digest = hashlib.sha256(body).hexdigest()
    assert (response.status_code, response.json()) == (200, {"length": size, "sha256": digest})
    assert not [name for name in response.headers if name.startswith(("x-rerank", "x-envoy"))]
    assert replica.received == {digest: 1}
    assert await on.demand() == {}


async def test_200_held_requests_are_all_answered_once(callers, agent_process, ranker, at_zero, until_held):
    replica = await ranker()
    on = await callers(at_zero())
    asked = [on.ask(body_of(20_000, mark=i)) for i in range(200)]
    await until_held(on, 200)

    agent_process.publish(at_zero("m", replica.port))

    responses = await asyncio.gather(*asked)
    statuses = Counter(response.status_code for response in responses)
    print(dict(statuses))
    assert statuses == {200: 200}
    digests = [hashlib.sha256(body_of(20_000, mark=i)).hexdigest() for i in range(200)]
    assert [response.json()["sha256"] for response in responses] == digests
    assert replica.received == dict.fromkeys(digests, 1)


async def test_a_model_falls_asleep_and_is_woken_again(
    callers, agent_process, gateway, ranker, at_zero, until, until_held
):
    replica = await ranker()

    async def asleep():
        return f":{replica.port}::" not in (await gateway.ask("/clusters")).text

    on = await callers(at_zero("m", replica.port))
    assert (await on.post(body_of(100))).status_code == 200
    for _ in range(3):
        agent_process.publish(at_zero())
        await until(asleep, "Envoy to forget the replica")
        asked = on.ask(body_of(100))
        await until_held(on, 1)
        agent_process.publish(at_zero("m", replica.port))
        assert (await asked).status_code == 200
    assert replica.received.total() == 4


async def test_a_request_that_names_no_model_waits_for_the_one_of_its_host(
    callers, agent_process, ranker, at_zero, until_held
):
    replica = await ranker()
    on = await callers(at_zero(hosts=("m.test",)))
    asked = on.ask(b'{"query":"q"}', headers={"host": "M.test:80"})
    await until_held(on, 1)
    agent_process.publish(at_zero("m", replica.port, hosts=("m.test",)))
    assert (await asked).status_code == 200


async def test_names_of_one_model_wait_together_and_those_of_another_do_not(
    callers, ranker, agent_process, at_zero, until_held
):
    replica = await ranker()
    on = await callers(at_zero("m"), at_zero("alias", model="rag/m"), at_zero("other"))
    asked = [on.ask(body_of(200, name)) for name in ("m", "alias")]
    other = on.ask(body_of(200, "other"))
    await until_held(on, 2)
    await until_held(on, 1, "rag/other")
    woken = (at_zero("m", replica.port), at_zero("alias", replica.port, model="rag/m"))
    agent_process.publish(*woken, at_zero("other"))
    assert {(await each).status_code for each in asked} == {200}
    assert await on.demand() != {}
    assert not other.done()
    agent_process.publish(*woken)
    assert refused(await other) == (404, "model_not_found", False)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        pytest.param(("--hold-requests", "2"), (100, 100), id="in number"),
        pytest.param(("--hold-mib", "1"), (600_000, 400_000), id="in bytes"),
    ],
)
async def test_one_more_than_may_wait_is_refused_while_the_others_wait_on(
    callers, agent_process, ranker, at_zero, until_held, options, sizes
):
    replica = await ranker()
    on = await callers(at_zero(), options=options)
    asked = [on.ask(body_of(size)) for size in sizes]
    await until_held(on, 2)

    more = body_of(100_000)
    assert refused(await on.post(more)) == NOT_READY
    in_chunks = await on.client.post("/v1/rerank", content=_slowly(more), headers={"X-GPUStack-Model": "m"})
    assert refused(in_chunks) == NOT_READY
    at_cohere = await on.post(more, "/v2/rerank")
    assert (at_cohere.status_code, list(at_cohere.json())) == (503, ["message"])
    assert at_cohere.headers["retry-after"] == str(RETRY_AFTER_S)
    assert await on.held() == 2

    agent_process.publish(at_zero("m", replica.port))
    assert {(await each).status_code for each in asked} == {200}
    assert replica.received.total() == 2


async def _slowly(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_who_waited_for_nothing_is_refused_and_told_when_to_come_back(callers, at_zero, until_held):
    on = await callers(at_zero(), options=("--hold-s", "1"))
    response = await on.post(body_of(100))
    assert refused(response) == NOT_READY
    assert "within 1 s" in response.json()["error"]["message"]
    assert await on.demand() == {}


async def test_an_activator_that_refuses_and_releases_many_in_a_row_goes_on_holding(
    callers, agent_process, gateway, ranker, at_zero, until, until_held
):
    replica = await ranker()

    async def asleep():
        return f":{replica.port}::" not in (await gateway.ask("/clusters")).text

    on = await callers(at_zero(), options=("--hold-requests", "10"))
    for _ in range(3):
        asked = [on.ask(body_of(100)) for _ in range(10)]
        await until_held(on, 10)
        assert {refused(await on.post(body_of(100))) for _ in range(20)} == {NOT_READY}
        assert await on.held() == 10
        agent_process.publish(at_zero("m", replica.port))
        assert {(await each).status_code for each in asked} == {200}
        agent_process.publish(at_zero())
        await until(asleep, "Envoy to forget the replica")
    assert replica.received.total() == 30


async def test_a_caller_that_hangs_up_leaves_the_hold(callers, at_zero, until_held):
    on = await callers(at_zero())
    asked = [on.ask(body_of(MIB)) for _ in range(3)]
    await until_held(on, 3)
    for each in asked[:2]:
        each.cancel()
    await until_held(on, 1)
    asked[2].cancel()
    await until_held(on, 0)


async def test_a_model_that_no_request_wakes_is_refused_at_once_also_where_it_changes(
    callers, agent_process, served, at_zero, until_held
):
    on = await callers(served("m", state=ModelState.IDLE), at_zero("z"))
    assert refused(await on.post(body_of(100))) == NOT_READY
    assert await on.demand() == {}

    asked = on.ask(body_of(100, "z"))
    await until_held(on, 1, "rag/z")
    agent_process.publish(at_zero("z", from_zero=False))
    assert refused(await asked) == NOT_READY


async def test_when_the_agent_is_killed_callers_are_told_so_and_the_next_one_finds_it_back(
    callers, agent_process, gateway, ranker, at_zero, until, until_held
):
    replica = await ranker()
    on = await callers(at_zero())
    asked = [on.ask(body_of(1000)) for _ in range(5)]
    await until_held(on, 5)

    await agent_process.end(signal.SIGKILL)

    assert {refused(await each) for each in asked} == {NOT_READY}
    away = [await on.post(body_of(1000)) for _ in range(10)]
    assert {refused(response) for response in away} == {NOT_READY}
    assert all("cannot be held just now" in response.json()["error"]["message"] for response in away)

    await agent_process.start()

    async def listens():
        try:
            return await on.demand() == {}
        except httpx.TransportError:
            return False

    await until(listens, "the agent to be back")
    asked = [on.ask(body_of(1000))]
    await until_held(on, 1)
    health = (await gateway.ask("/clusters")).text
    assert [line for line in health.splitlines() if "hold.sock::health_flags" in line] == [
        next(line for line in health.splitlines() if "hold.sock::health_flags::healthy" in line)
    ]
    agent_process.publish(at_zero("m", replica.port))
    assert (await asked[0]).status_code == 200


async def test_an_agent_that_ends_refuses_who_waits(callers, agent_process, at_zero, until_held):
    on = await callers(at_zero())
    asked = on.ask(body_of(1000))
    await until_held(on, 1)
    assert await agent_process.end(signal.SIGTERM) == 0
    assert refused(await asked) == NOT_READY


@pytest.mark.parametrize(
    "headers",
    ["", "x-rerank-release: 1\r\n", "x-rerank-release: \r\n"],
    ids=["as it is", "with a made-up key", "with an empty key"],
)
async def test_a_425_of_a_server_passes_and_is_not_sent_again(callers, ranker, at_zero, headers):
    replica = await ranker(425, headers)
    on = await callers(at_zero("m", replica.port))
    response = await on.post(body_of(100))
    assert (response.status_code, response.json()["length"]) == (425, 100)
    assert "x-rerank-release" not in response.headers
    assert replica.received.total() == 1


async def test_nobody_is_held_while_one_of_three_replicas_answers(
    callers, agent_process, gateway, ranker, at_zero
):
    replicas = [await ranker() for _ in range(3)]
    on = await callers(at_zero("m", *(replica.port for replica in replicas)))
    for dead in replicas[1:]:
        await dead.stop()
    responses = [await on.post(body_of(100)) for _ in range(60)]
    assert {response.status_code for response in responses} == {200}
    clusters = (await gateway.ask("/clusters")).text.splitlines()
    assert [line.rpartition("::")[2] for line in clusters if "hold.sock::rq_total" in line] == ["0"]
    for dead in replicas[1:]:
        await dead.start()


async def test_replicas_that_are_told_and_cannot_be_reached_end_in_an_error_body(callers, ranker, at_zero):
    replica = await ranker()
    await replica.stop()
    on = await callers(at_zero("m", replica.port))
    responses = [await on.post(body_of(100)) for _ in range(3)]
    assert {response.status_code for response in responses} == {503}
    assert {refused(response)[1] for response in responses} <= {"model_not_ready", "replica_failed"}
    await replica.start()


async def test_what_callers_may_not_say_changes_nothing_and_what_is_not_theirs_is_not_found(
    callers, at_zero, until_held
):
    on = await callers(at_zero())
    headers = {"x-rerank-release": "1", "x-envoy-attempt-count": "9", "x-rerank-model": "other"}
    asked = on.ask(body_of(100), headers=headers)
    await until_held(on, 1)
    asked.cancel()
    assert refused(await on.client.get("/demand")) == (404, "not_found", False)


async def test_the_agent_and_envoy_find_one_key_whoever_starts_first(socket_dir):
    assert release.known_key(socket_dir) is None
    made = await asyncio.gather(*(asyncio.to_thread(release.key, socket_dir) for _ in range(20)))
    assert {*made, release.known_key(socket_dir)} == {made[0]}
    assert len(made[0]) == 32
    assert [file.name for file in socket_dir.iterdir()] == ["release.key"]
    assert (socket_dir / "release.key").stat().st_mode & 0o777 == 0o600
