"""Two gateways and one limit, through real Envoys and real agents that ask each other over loopback."""

import json
import threading
import time

import httpx

from rerank_api.keys import digest_of, make_key
from rerank_gateway.models import Consumer

LIMIT = 1800
"""A minute: so many at once, and 30 a second. Much more than is sent until gateways hear of each other."""


def asked(gateway, key, tokens=0, model="metered"):
    body = json.dumps({"model": model, "query": "q", "documents": ["a"], "tokens": tokens}).encode()
    return gateway.caller.post("/v1/rerank", body, (("authorization", f"Bearer {key}"),))


def test_requests_through_both_gateways_count_against_one_limit(gateway_replicas):
    key, lone = make_key(), make_key()
    with gateway_replicas(
        Consumer("app", (digest_of(key),), ("*",), LIMIT), Consumer("lone", (digest_of(lone),), ("*",), 30)
    ) as replicas:
        began, more = time.monotonic(), 0
        assert [asked(replicas.gateways[0], lone).status for _ in range(30)] == [200] * 30, (
            "all of it through one of them"
        )
        while (answer := asked(replicas.gateways[0], lone)).status == 200:
            more += 1
            assert more <= (time.monotonic() - began) / 2, "30 a minute are one in two seconds"
        assert answer.status == 429

        refused, passed, began = {}, 0, time.monotonic()
        for turn in range(4 * LIMIT):
            answer = asked(replicas.gateways[turn % 2], key)
            passed += answer.status == 200
            if answer.status != 200:
                refused.setdefault(turn % 2, answer)
            if len(refused) == 2:
                break
        elapsed = time.monotonic() - began
        print(f"{passed} passed in {elapsed:.1f} s")
        # Each alone lets 2 LIMIT pass, and twice as many a second.
        assert LIMIT <= passed <= LIMIT * (1.5 + elapsed / 60)
        for answer in refused.values():
            assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
            assert "requests" in answer.error["message"]
            assert answer.headers["x-ratelimit-remaining"] == "0"
            assert answer.headers["x-ratelimit-limit"].partition(",")[0] == str(LIMIT)
            assert answer.headers.get_all("retry-after") == [answer.headers["x-ratelimit-reset"]]


def test_tokens_used_through_one_gateway_are_owed_at_the_other(gateway_replicas, wait_for):
    key = make_key()
    with gateway_replicas(Consumer("app", (digest_of(key),), ("*",), None, 1200)) as replicas:
        assert asked(replicas.gateways[0], key, 2400).status == 200
        wait_for(lambda: asked(replicas.gateways[1], key).status == 429)
        refused = asked(replicas.gateways[1], key)
        assert "tokens" in refused.error["message"]
        assert refused.headers["x-ratelimit-limit"] == "1200"


def test_a_request_counts_once_and_before_it_has_ended(gateway_replicas, wait_for):
    key = make_key()
    with gateway_replicas(
        Consumer("app", (digest_of(key),), ("*",), LIMIT), request_timeout_s=30.0
    ) as replicas:
        log = (replicas.gateways[0].settings.socket_dir / "access.log").read_text

        def counted():
            answer = httpx.get(f"http://127.0.0.1:{replicas.counts[0]}/counts", trust_env=False, timeout=120)
            return answer.json()["used"].get("app", {"requests": 0})["requests"]

        slow = threading.Thread(target=asked, args=(replicas.gateways[0], key, 0, "slow"))
        slow.start()
        wait_for(lambda: counted() == 1)
        assert slow.is_alive()
        slow.join()
        assert asked(replicas.gateways[0], key).status == 200
        wait_for(lambda: counted() >= 2)
        assert counted() == 2
        wait_for(lambda: log().count("\n") >= 2)
        assert [json.loads(line)["model"] for line in log().splitlines()] == ["slow", "metered"]


def test_a_limit_of_one_consumer_that_changes_lets_no_other_begin_anew(keyed_gateway, wait_for):
    """Envoy's buckets are full again then: the agent knows better."""
    key = make_key()
    app, other = Consumer("app", (digest_of(key),), ("*",), LIMIT), Consumer("other", (), ("*",), 5)
    with keyed_gateway(app, other) as gateway:

        def passing():
            """Send until one is refused; return how many were not."""
            statuses = (asked(gateway, key).status for _ in range(4 * LIMIT))
            return next(number for number, status in enumerate(statuses) if status == 429)

        assert passing() >= LIMIT
        began = time.monotonic()
        gateway.admit(app, Consumer("other", (), ("*",), 6))
        wait_for(lambda: '"max_tokens": 6' in gateway.administration("/config_dump?resource=ecds_filters"))
        passed = passing()
        print(f"{passed} passed")
        assert passed <= LIMIT * (0.5 + (time.monotonic() - began) / 60)
