"""Keys and spans in a cluster: RerankConsumers say who has a key, and `tracing` who is told of requests.

All other tests have a gateway without both. One upgrade turns both on, since each replaces all gateways.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from rerank_api.keys import digest_of, encoded, make_key
from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import NAMESPACE, Release
from tests.cluster.harness.traffic import PANDA, ROUND, Door
from tests.cluster.onenode.cluster import Cluster, OneNode
from tests.support.otlp import CLIENT, SERVER, Collector, Span, collecting

MODEL = quickstart()["metadata"]["name"]
GATEWAYS = "app.kubernetes.io/component=gateway"
CALLER = "00f067aa0ba902b7"
RERANK = Path(sys.executable).with_name("rerank")


@pytest.fixture(scope="module")
def collector(cluster: Cluster) -> Iterator[Collector]:
    """A collector on this machine, which the pods of our own cluster alone reach."""
    with collecting(cluster.host if isinstance(cluster, OneNode) else "127.0.0.1") as collector:
        yield collector


@pytest.fixture(scope="module")
def keyed(release: Release, models: Kube, collector: Collector) -> Iterator[Door]:
    """The gateway while it asks for keys and makes spans of all requests."""
    release.install(
        "--set", "gateway.auth.enabled=true",
        "--set", f"tracing.endpoint={collector.url}", "--set", "tracing.sampling=100",
        # Servers gather spans for five seconds by default.
        "--set", "server.env[0].name=OTEL_BSP_SCHEDULE_DELAY", "--set-string", "server.env[0].value=200",
    )  # fmt: skip
    rolled_out(models, collector.url)
    yield release.door
    release.install()
    rolled_out(models, None)


def rolled_out(models: Kube, endpoint: str | None) -> None:
    """Wait until a server takes traffic that was told of the collector, or of none."""

    def told() -> bool:
        (container,) = models.get("deployment", MODEL)["spec"]["template"]["spec"]["containers"]
        told = {one["name"]: one.get("value") for one in container.get("env", ())}
        return told.get("OTEL_EXPORTER_OTLP_ENDPOINT") == endpoint

    eventually(told, "the operator to change the servers' variables", seconds=600)
    models("rollout", "status", f"deployment/{MODEL}", "--timeout=600s")
    models.ready(MODEL)


@dataclass(frozen=True)
class Caller:
    """Who may call while spans are made."""

    door: Door
    key: str

    def ask(self, *traceparents: str | None) -> list[httpx.Response]:
        """Rank the example once for each; without a traceparent where there is None."""
        headers = {"Authorization": f"Bearer {self.key}"}
        asked = [headers if given is None else {**headers, "traceparent": given} for given in traceparents]
        with self.door.client() as client:
            answers = [
                client.post("/v1/rerank", json={**PANDA, "model": MODEL}, headers=one) for one in asked
            ]
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
        return answers

    def ask_in_traces(self, flag: str, count: int = 1) -> list[str]:
        """Ask in so many traces of the caller's own; the flag says whether it has spans made."""
        traces = [uuid.uuid4().hex for _ in range(count)]
        self.ask(*(f"00-{trace}-{CALLER}-{flag}" for trace in traces))
        return traces


@pytest.fixture
def caller(keyed: Door, system: Kube, models: Kube, own_cluster: OneNode) -> Iterator[Caller]:
    """One whose spans reach the collector: no server is left that makes none."""
    eventually(lambda: len(models.pods(MODEL)) == 1, "the server without spans to end", seconds=600)
    key = make_key()
    system.apply(secret(key), consumer(MODEL))
    becomes(keyed, key, 200)
    yield Caller(keyed, key)
    for kind in ("rerankconsumer", "secret"):
        system("delete", kind, "search", "--ignore-not-found")


def secret(*keys: str) -> dict[str, Any]:
    data = {f"key-{number}": encoded(digest_of(key)) for number, key in enumerate(keys)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "search"}, "data": data}


def consumer(*models: str, **limits: int) -> dict[str, Any]:
    spec = {"keySecret": {"name": "search"}, "models": list(models), **({"limits": limits} if limits else {})}
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankConsumer",
        "metadata": {"name": "search"},
        "spec": spec,
    }


def statuses(door: Door, key: str | None) -> set[int]:
    """Return the statuses that every gateway answers with; each hears of a key by itself."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    body = {**PANDA, "model": MODEL}
    with door.client() as client:
        answers = [client.post("/v1/rerank", json=body, headers=headers) for _ in range(ROUND)]
    return {answer.status_code for answer in answers}


def becomes(door: Door, key: str | None, wanted: int) -> None:
    def answered() -> bool:
        seen = statuses(door, key)
        assert key is not None or 200 not in seen  # at no time
        return seen == {wanted}

    eventually(answered, f"the key to be answered with {wanted}", lambda: sorted(statuses(door, key)))


def lists(door: Door, key: str, times: int) -> httpx.Response:
    """Ask for the list of models, which counts as a request and costs little; return the last answer."""
    with door.client() as client:
        for _ in range(times):
            answer = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    return answer


def test_a_consumer_calls_with_its_keys_alone_and_only_what_it_is_granted(keyed: Door, system: Kube) -> None:
    old, new = make_key(), make_key()
    becomes(keyed, None, 401)
    try:
        system.apply(secret(old))
        system.apply(consumer("another-model"))
        becomes(keyed, old, 403)
        system.apply(consumer(MODEL))
        becomes(keyed, old, 200)
        assert statuses(keyed, None) == {401}
        system.apply(secret(old, new))
        becomes(keyed, new, 200)
        assert statuses(keyed, old) == {200}
        system.apply(secret(new, new))
        becomes(keyed, old, 401)
        assert statuses(keyed, new) == {200}
    finally:
        for kind in ("rerankconsumer", "secret"):
            system("delete", kind, "search", "--ignore-not-found")
    becomes(keyed, new, 401)


def test_what_one_gateway_lets_in_counts_at_the_other(
    keyed: Door, system: Kube, own_cluster: OneNode
) -> None:
    key, limit, few = make_key(), 40, 16
    pods = system.all("pods", GATEWAYS)
    one, other = (Door(f"{pod['status']['podIP']}:8080", keyed.host) for pod in pods)
    system.apply(secret(key), consumer(MODEL, requestsPerMinute=limit))
    try:
        becomes(one, key, 200)
        becomes(other, key, 200)
        # So few are not enough for its own bucket to be empty: it was told.
        for _ in range(few):
            eventually(lambda: lists(one, key, limit).status_code == 429, "the one gateway to refuse")
            time.sleep(1)  # they ask each other four times as often
            answer = lists(other, key, 1)
            if answer.status_code == 429:
                break
        assert answer.status_code == 429, answer.text
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        for kind in ("rerankconsumer", "secret"):
            system("delete", kind, "search", "--ignore-not-found")


def test_a_policy_leaves_the_exchange_of_limits_to_the_gateways_pods_alone(keyed: Door, system: Kube) -> None:
    """As the API server took it. What holds pods to it is the network, and this cluster's does not."""
    gateways = {pod["metadata"]["name"]: pod for pod in system.all("pods", GATEWAYS)}
    assert len(gateways) == 2
    (policy,) = system.all("networkpolicies")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    callers, exchange = spec["ingress"]
    assert selected(system, spec["podSelector"]) == set(gateways)
    assert callers == {"ports": [{"port": 8080, "protocol": "TCP"}]}
    (port,) = exchange["ports"]
    for pod in gateways.values():
        containers = {one["name"]: one for one in pod["spec"]["containers"]}
        assert {one["name"]: one["containerPort"] for one in containers["agent"]["ports"]} == {
            "counts": port["port"]
        }
    (peers,) = exchange["from"]
    assert list(peers) == ["podSelector"]  # of the policy's own namespace
    assert selected(system, peers["podSelector"]) == set(gateways)


def selected(system: Kube, selector: dict[str, Any]) -> set[str]:
    """Return the names of the pods that a selector of labels has."""
    assert list(selector) == ["matchLabels"]
    labels = ",".join(f"{name}={value}" for name, value in selector["matchLabels"].items())
    return {pod["metadata"]["name"] for pod in system.all("pods", labels)}


def test_the_commands_make_keys_that_count_and_take_them_away(keyed: Door, system: Kube) -> None:
    def key(*words: str) -> str:
        where = ("--kubernetes", "--namespace", system.namespace)
        environment = {**os.environ, "KUBECONFIG": str(system.cluster.kubeconfig)}
        done = subprocess.run(
            [RERANK, "key", *words, *where], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    old = key("create", "by-command", "--model", MODEL)
    try:
        becomes(keyed, old, 200)
        new = key("rotate", "by-command")
        becomes(keyed, new, 200)
        assert statuses(keyed, old) == {200}
        key("revoke", "by-command", "--older")
        becomes(keyed, old, 401)
        assert statuses(keyed, new) == {200}
    finally:
        key("revoke", "by-command")
    becomes(keyed, new, 401)
    assert system.find("secret", "by-command") is None


def one(collector: Collector, wanted: Callable[[Span], bool]) -> Span:
    """Return the only span of a kind, once it is there."""
    (found,) = collector.wait_for(wanted)
    return found


def assert_whole(collector: Collector, gateway: Span) -> None:
    """Below the gateway's span are its try of a replica, the server's span, and what the server did."""
    assert (gateway.service, gateway.kind) == ("rerank-gateway", SERVER)
    assert gateway.attributes["rerank.model"] == MODEL
    assert gateway.attributes["rerank.consumer"] == f"{NAMESPACE}/search"
    assert gateway.attributes["http.status_code"] == "200"
    attempt = one(collector, lambda span: span.parent == gateway.id)
    assert (attempt.service, attempt.kind) == ("rerank-gateway", CLIENT)
    server = one(collector, lambda span: span.parent == attempt.id)
    assert (server.service, server.kind, server.name) == ("rerank-server", SERVER, "POST /v1/rerank")
    assert server.attributes["rerank.model"] == MODEL
    assert server.attributes["rerank.documents"] == gateway.attributes["rerank.documents"] == "3"
    assert server.attributes["rerank.tokens"] == gateway.attributes["rerank.tokens"] == "49"
    steps = collector.wait_for(lambda span: span.parent == server.id, 3)
    assert sorted(step.name for step in steps) == ["compute", "queue", "tokenize"]
    assert {span.trace for span in (attempt, server, *steps)} == {gateway.trace}


def test_a_request_in_its_callers_trace_is_a_span_of_the_gateway_and_one_of_the_server_below_it(
    caller: Caller, collector: Collector
) -> None:
    (trace,) = caller.ask_in_traces("01")
    gateway = one(collector, lambda span: span.trace == trace and span.parent == CALLER)
    assert_whole(collector, gateway)


def test_a_request_without_a_trace_begins_one(caller: Caller, collector: Collector) -> None:
    (answer,) = caller.ask(None)
    request = answer.headers["x-request-id"]
    gateway = one(
        collector,
        lambda span: span.attributes.get("guid:x-request-id") == request and span.kind == SERVER,
    )
    assert gateway.parent == ""
    assert_whole(collector, gateway)


def test_a_caller_that_wants_no_spans_gets_none_of_gateway_or_server(
    caller: Caller, collector: Collector
) -> None:
    unwanted = caller.ask_in_traces("00", ROUND)
    wanted = caller.ask_in_traces("01", ROUND)
    # What was made before is sent before, by each gateway and by the server.
    for trace in wanted:
        collector.wait_for(lambda span, trace=trace: span.trace == trace and span.service == "rerank-server")
        collector.wait_for(
            lambda span, trace=trace: span.trace == trace and span.service == "rerank-gateway", 2
        )
    assert [span for span in collector.spans if span.trace in unwanted] == []


def test_no_span_holds_a_text_of_the_request_or_its_key(caller: Caller, collector: Collector) -> None:
    (trace,) = caller.ask_in_traces("01")
    assert_whole(collector, one(collector, lambda span: span.trace == trace and span.parent == CALLER))
    texts = (PANDA["query"], *PANDA["documents"][1:], caller.key)
    assert [text for text in texts if any(text.encode() in raw for raw in collector.raw)] == []
