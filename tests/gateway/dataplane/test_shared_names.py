"""A public name that two models share by weight, through a real Envoy and the real agent."""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from rerank_api.keys import digest_of, make_key
from rerank_api.status import ModelState
from rerank_gateway.models import Consumer, Endpoint, ServedModel

CHANCE = 1e-9
"""That a test fails though each request is decided as it should."""
REQUESTS = 400


def body(name: str = "bge", tokens: int = 7) -> bytes:
    return json.dumps({"model": name, "query": "q", "documents": ["d"], "tokens": tokens}).encode()


def model(name: str, weight: int | None, *upstreams: Any, public: str = "bge") -> ServedModel:
    """Return a model of namespace `rag`; it is ready if it has servers."""
    return ServedModel(
        name=public,
        model=f"rag/{name}",
        state=ModelState.READY if upstreams else ModelState.LOADING,
        message="Ready." if upstreams else "Loading.",
        endpoints=tuple(Endpoint("127.0.0.1", upstream.port) for upstream in upstreams),
        weight=weight,
    )


def bounds(requests: int, probability: float) -> tuple[int, int]:
    """Return between which counts, both included, a binomial one is found but for less than `CHANCE`."""
    chances = [
        math.comb(requests, count) * probability**count * (1 - probability) ** (requests - count)
        for count in range(requests + 1)
    ]

    def tail(ordered: Iterator[float]) -> int:
        total = 0.0
        for count, chance in enumerate(ordered):
            total += chance
            if total >= CHANCE / 2:
                return count
        raise AssertionError("a tail is never everything")

    return tail(iter(chances)), requests - tail(reversed(chances))


def test_the_bounds_leave_out_less_than_the_chance_and_find_a_split_by_replicas() -> None:
    low, high = bounds(REQUESTS, 0.75)
    assert 240 < low < 300 < high < 355
    outside = sum(
        math.comb(REQUESTS, count) * 0.75**count * 0.25 ** (REQUESTS - count)
        for count in range(REQUESTS + 1)
        if not low <= count <= high
    )
    assert 0 < outside < CHANCE


def counts(*upstreams: Any) -> list[int]:
    return [len(upstream.seen) for upstream in upstreams]


def listed(gateway: Any, name: str = "bge") -> dict[str, Any]:
    found: dict[str, Any] = gateway.caller.ask("GET", f"/v1/models/{name}").json
    return found


@contextmanager
def load(gateway: Any) -> Iterator[Counter[int]]:
    """Send requests one after another from each of two callers until the block ends; count the statuses."""
    answers: Counter[int] = Counter()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            answers[gateway.caller.post("/v1/rerank", body()).status] += 1

    callers = [threading.Thread(target=send) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        yield answers
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def test_requests_are_split_by_weight_whatever_the_replicas(
    gateway_of: Callable[..., Any], replicas: dict[str, Any]
) -> None:
    """Two replicas have a quarter, one has the rest: a split by replicas would be the other way round."""
    first, second, third = (replicas[name] for name in ("first", "second", "third"))
    with gateway_of(model("v1", 25, first, second), model("v2", 75, third), concurrency=2) as gateway:
        for _ in range(REQUESTS):
            assert gateway.caller.post("/v1/rerank", body()).status == 200
    low, high = bounds(REQUESTS, 0.75)
    assert sum(counts(first, second, third)) == REQUESTS
    assert low <= len(third.seen) <= high
    assert min(counts(first, second)) > 0


def test_a_model_without_a_part_gets_requests_by_its_own_name_alone(
    gateway_of: Callable[..., Any], replicas: dict[str, Any]
) -> None:
    first, second = replicas["first"], replicas["second"]
    own = model("v2", 0, second, public="v2")
    with gateway_of(model("v1", 5, first), model("v2", 0, second), own) as gateway:
        for _ in range(100):
            assert gateway.caller.post("/v1/rerank", body()).status == 200
        assert counts(first, second) == [100, 0]
        assert gateway.caller.post("/v1/rerank", body("v2")).status == 200
        assert counts(first, second) == [100, 1]
        assert listed(gateway, "v2")["state"] == "Ready"


def test_where_nobody_has_a_part_a_name_has_no_replica(
    gateway_of: Callable[..., Any], replicas: dict[str, Any]
) -> None:
    with gateway_of(model("v1", 0, replicas["first"]), model("v2", 5)) as gateway:
        reply = gateway.caller.post("/v1/rerank", body())
        assert (reply.status, reply.error["code"]) == (503, "model_not_ready")
        assert replicas["first"].seen == []


def test_parts_come_change_and_go_without_a_failed_request(
    gateway_of: Callable[..., Any], replicas: dict[str, Any], wait_for: Any
) -> None:
    first, second = replicas["first"], replicas["second"]

    def becomes(*models: ServedModel, message: str) -> None:
        gateway.serve(*models)
        wait_for(lambda: listed(gateway)["message"] == message)

    with gateway_of(model("v1", None, first)) as gateway, load(gateway) as answers:
        wait_for(lambda: len(first.seen) > 20)
        becomes(
            model("v1", 50, first),
            model("v2", 50),
            message="Shared by weight: rag/v1 (50) Ready, rag/v2 (50) Loading.",
        )
        assert second.seen == []
        becomes(
            model("v1", 50, first),
            model("v2", 50, second),
            message="Shared by weight: rag/v1 (50) Ready, rag/v2 (50) Ready.",
        )
        wait_for(lambda: len(second.seen) > 20)
        becomes(
            model("v1", 50),
            model("v2", 50, second),
            message="Shared by weight: rag/v1 (50) Loading, rag/v2 (50) Ready.",
        )

        def one_has_all() -> bool:
            before, then = len(first.seen), len(second.seen)
            wait_for(lambda: len(second.seen) > then + 50)
            return len(first.seen) == before

        wait_for(one_has_all)  # the list of models hears of the change before Envoy does
        then = len(second.seen)
        becomes(model("v2", 50, second), message="Ready.")
        wait_for(lambda: len(second.seen) > then + 50)
    assert set(answers) == {200}


def test_the_other_takes_over_while_one_cannot_be_reached(
    gateway_of: Callable[..., Any], replicas: dict[str, Any]
) -> None:
    with gateway_of(model("v1", 95, replicas["nobody"]), model("v2", 5, replicas["first"])) as gateway:
        answers = Counter(gateway.caller.post("/v1/rerank", body()).status for _ in range(100))
    assert answers == {200: 100}


def test_log_and_metrics_say_which_of_them_answered(
    gateway_of: Callable[..., Any], replicas: dict[str, Any], wait_for: Any
) -> None:
    first, second = replicas["first"], replicas["second"]
    key = make_key()
    app = Consumer("app", (digest_of(key),), ("bge",))
    sent = (("authorization", f"Bearer {key}"),)
    models = (
        model("v1", 50, first),
        model("v2", 50, second),
        model("v2", 50, second, public="v2"),
    )
    with gateway_of(*models, consumers=(app,)) as gateway:
        for _ in range(20):
            assert gateway.caller.post("/v1/rerank", body(tokens=7), sent).status == 200
        assert gateway.caller.post("/v1/rerank", body("v2"), sent).status == 403
        assert gateway.caller.post("/v1/rerank", body("no-such"), sent).status == 403
        assert sum(counts(first, second)) == 20

        def metrics() -> set[str]:
            transport = httpx.HTTPTransport(uds=str(gateway.settings.http_socket))
            with httpx.Client(transport=transport, timeout=120) as client:
                return set(client.get("http://agent/metrics").text.splitlines())

        labels = 'consumer="app",model="bge",served_by="rag/'
        expected = {
            line
            for name, count in zip(("v1", "v2"), counts(first, second), strict=True)
            for line in (
                f'rerank_gateway_requests_total{{{labels}{name}",status="2xx"}} {count}.0',
                f'rerank_gateway_documents_total{{{labels}{name}"}} {count}.0',
                f'rerank_gateway_tokens_total{{{labels}{name}"}} {7 * count}.0',
            )
        }
        wait_for(lambda: expected <= metrics())
        wait_for(lambda: gateway.settings.access_log.read_text().count("\n") >= 22)
        entries = [json.loads(line) for line in gateway.settings.access_log.read_text().splitlines()]
        logged = Counter(entry["served_by"] for entry in entries if entry["model"] == "bge")
        assert logged == dict(zip(("rag/v1", "rag/v2"), counts(first, second), strict=True))
        assert {entry["served_by"] for entry in entries if entry["status"] == 403} == {None}
        assert gateway.complaints() == []


@pytest.mark.parametrize("alone", [None, 5])
def test_a_model_that_is_alone_has_all_whatever_its_weight(
    gateway_of: Callable[..., Any], replicas: dict[str, Any], alone: int | None
) -> None:
    with gateway_of(model("v1", alone, replicas["first"])) as gateway:
        assert gateway.caller.post("/v1/rerank", body()).status == 200
