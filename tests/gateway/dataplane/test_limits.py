"""Limits through a real Envoy and the real agent: who calls too fast waits, and nobody else does."""

import json
import time

import httpx
import pytest

from rerank_api.keys import digest_of, make_key
from rerank_gateway.models import Consumer


def bearer(key):
    return (("authorization", f"Bearer {key}"),)


def body(tokens=0):
    return json.dumps({"model": "metered", "query": "q", "documents": ["a"], "tokens": tokens}).encode()


def refusal(ask, began):
    """Return the first refusal; before it pass as many as a bucket of 5 a minute has got since `began`."""
    passed = 0
    while (answer := ask()).status == 200:
        assert passed <= (time.monotonic() - began) / 12
        passed += 1
    assert answer.status == 429
    return answer


def test_one_request_too_many_is_told_to_wait_and_nobody_else_is(keyed_gateway, wait_for):
    fast, other, fresh = make_key(), make_key(), make_key()
    free = Consumer("free", (digest_of(other),), ("*",))
    with keyed_gateway(Consumer("fast", (digest_of(fast),), ("*",), 5), free) as gateway:

        def post(key):
            return gateway.caller.post("/v1/rerank", body(), bearer(key))

        began = time.monotonic()
        first = post(fast)
        assert (first.status, first.headers["x-ratelimit-remaining"]) == (200, "4")
        assert [post(fast).status for _ in range(4)] == [200] * 4
        refused = refusal(lambda: post(fast), began)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["x-ratelimit-limit"].partition(",")[0] == "5"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert refused.headers.get_all("retry-after") == [refused.headers["x-ratelimit-reset"]]
        assert 0 < int(refused.headers["retry-after"]) <= 60
        for path in ("/v2/rerank", "/model/proxy/metered/v2/rerank"):
            cohere = refusal(lambda path=path: gateway.caller.post(path, body(), bearer(fast)), began)
            assert (cohere.status, set(cohere.json)) == (429, {"message"})
        assert [post(other).status for _ in range(8)] == [200] * 8

        gateway.admit(Consumer("fast", (digest_of(fast), digest_of(fresh)), ("*",), 5), free)
        wait_for(lambda: post(fresh).status != 401)
        refusal(lambda: post(fast), began)
        refusal(lambda: post(fresh), time.monotonic())  # another key is no other bucket


def test_tokens_are_charged_after_the_answer_and_the_debt_is_waited_for(keyed_gateway, wait_for):
    key, other = make_key(), make_key()
    limited = Consumer("limited", (digest_of(key),), ("*",), None, 1200)
    with keyed_gateway(limited, Consumer("free", (digest_of(other),), ("*",))) as gateway:

        def post(tokens=0, key=key):
            return gateway.caller.post("/v1/rerank", body(tokens), bearer(key))

        answers = []

        def is_refused():
            answers.append(post())
            return answers[-1].status == 429

        assert post(1600).status == 200, "what it costs is known only afterwards"
        wait_for(is_refused)
        refused = answers[-1]
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert "tokens" in refused.error["message"]
        assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == (
            "1200",
            "0",
        )
        assert refused.headers.get_all("retry-after") == [refused.headers["x-ratelimit-reset"]]
        assert 1 <= int(refused.headers["retry-after"]) <= 21
        assert post(0, other).status == 200
        wait_for(lambda: post().status == 200)


def test_the_agent_counts_by_consumer_and_model_where_no_caller_reaches_it(keyed_gateway, wait_for):
    key = make_key()
    with keyed_gateway(Consumer("app", (digest_of(key),), ("*",))) as gateway:
        post = gateway.caller.post
        assert post("/v1/rerank", body(30), bearer(key)).status == 200
        assert (
            post("/v1/rerank", b'{"documents": [1, 2], "tokens": 12}', bearer(key), "metered.test").status
            == 200
        )
        assert post("/v1/rerank", b'{"model": "no-such"}', bearer(key)).status == 404
        assert post("/v1/rerank", body(7)).status == 401

        def text():
            transport = httpx.HTTPTransport(uds=str(gateway.settings.http_socket))
            with httpx.Client(transport=transport, timeout=120) as client:
                return client.get("http://agent/metrics").text.splitlines()

        expected = {
            'rerank_gateway_requests_total{consumer="app",model="metered",served_by="test",status="2xx"} 2.0',
            'rerank_gateway_requests_total{consumer="app",model="",served_by="",status="4xx"} 1.0',
            'rerank_gateway_requests_total{consumer="",model="",served_by="",status="4xx"} 1.0',
            'rerank_gateway_documents_total{consumer="app",model="metered",served_by="test"} 3.0',
            'rerank_gateway_tokens_total{consumer="app",model="metered",served_by="test"} 42.0',
        }
        wait_for(lambda: expected <= set(text()))
        assert gateway.caller.ask("GET", "/metrics", None, bearer(key)).status == 404
        assert gateway.complaints() == []


def test_prometheus_has_a_port_of_its_own_with_two_paths(asked):
    metrics = type(asked.gateway.caller)(asked.gateway.settings.metrics[1])
    assert b"rerank_gateway_requests_total" in metrics.ask("GET", "/metrics").body
    assert b"envoy_http_downstream_rq_total" in metrics.ask("GET", "/stats/prometheus").body
    for method, path in (("GET", "/config_dump"), ("POST", "/quitquitquit"), ("GET", "/v1/models")):
        assert metrics.ask(method, path).status == 404
    assert metrics.ask("POST", "/metrics").status == 404


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/models"])
def test_a_consumer_without_limits_is_told_of_none(asked, path):
    method, sent = ("GET", None) if path == "/v1/models" else ("POST", body())
    answer = asked.gateway.caller.ask(method, path, sent, bearer(asked.keys["all"]))
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith(("x-ratelimit", "retry-after"))]
