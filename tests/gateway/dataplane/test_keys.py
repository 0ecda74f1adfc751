"""Keys through a real Envoy and the real agent: who is let in, to what, and that keys leave no trace."""

import itertools
import json
import signal
import threading
from collections import Counter

import pytest

from rerank_api.keys import digest_of, make_key
from rerank_gateway.models import Consumer

PATHS = {
    "jina": ("/v1/rerank", 403, "error"),
    "cohere": ("/v2/rerank", 403, "message"),
    "cohere below its prefix": ("/cohere/v1/rerank", 403, "message"),
    "voyage": ("/voyage/v1/rerank", 403, "detail"),
    "tei": ("/tei/rerank", 403, "error_type"),
    "vllm": ("/score", 403, "error"),
    "infinity": ("/infinity/rerank", 403, "error"),
}
"""By API: one of its paths, the status of a model that is not granted, and a field of its errors."""


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def body(model: str | None) -> bytes:
    named = {} if model is None else {"model": model}
    return json.dumps({**named, "query": "q", "documents": ["d"]}).encode()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("authorization: Bearer {key}", id="Bearer"),
        pytest.param("Authorization: bearer {key}", id="bearer in lower case"),
        pytest.param("X-API-Key: {key}", id="X-API-Key"),
        pytest.param("authorization: Bearer {key}\nx-api-key: {key}", id="the same key in both"),
    ],
)
def test_a_good_key_is_let_in_and_goes_no_further(asked, headers):
    key = asked.keys["all"]
    sent = tuple(tuple(line.format(key=key).split(": ")) for line in headers.split("\n"))
    answer = asked.gateway.caller.post("/v1/rerank", body("echo"), sent)
    assert answer.status == 200
    received = {name.lower() for name, _ in answer.json["headers"]}
    assert received.isdisjoint({"authorization", "x-api-key", "x-rerank-key", "x-rerank-consumer"})
    assert key not in answer.body.decode()
    assert not any(name.lower().startswith("x-rerank") for name in answer.headers)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("", id="none"),
        pytest.param("authorization: Bearer {other}", id="an unknown one"),
        pytest.param("x-api-key: {other}", id="an unknown X-API-Key"),
        pytest.param("authorization: Basic {key}", id="another scheme"),
        pytest.param("authorization: {key}", id="no scheme"),
        pytest.param("authorization: Bearer {key}\nauthorization: Bearer {key}", id="Authorization twice"),
        pytest.param("authorization: Bearer {key}\nauthorization: Bearer {other}", id="two Authorizations"),
        pytest.param("authorization: Bearer {key}\nx-api-key: {other}", id="two keys"),
        pytest.param("authorization: Bearer {key}\nx-api-key:", id="a key and an empty one"),
        pytest.param("authorization: Bearer {digest}", id="the digest for the key"),
        pytest.param("x-rerank-key: {digest}", id="the gateway's own header, with a good digest"),
        pytest.param("X-Rerank-Consumer: all", id="the gateway's own header, with a consumer"),
        pytest.param("x-rerank-consumer: all\nauthorization: Bearer {other}", id="that beside a bad key"),
        pytest.param("authorization: Bearer {long}", id="one longer than any key"),
    ],
)
def test_any_other_request_is_refused_with_what_to_send(asked, headers):
    key = asked.keys["all"]
    values = {"key": key, "other": make_key(), "digest": digest_of(key), "long": key + "x" * 500}
    lines = [line.format(**values) for line in headers.split("\n") if line]
    sent = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    answer = asked.gateway.caller.post("/v1/rerank", body("echo"), sent)
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert "Authorization: Bearer <key>" in answer.error["message"]
    assert answer.headers.get_all("www-authenticate") == ["Bearer"]


def test_a_request_without_a_key_is_refused_before_its_body_comes(asked, request_head):
    head = request_head("POST", "/v1/rerank", (("content-length", "5000000"),))
    assert asked.gateway.caller.raw(head).status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo", "/metrics", "/v1/rerank"])
def test_every_path_but_the_health_check_needs_a_key(asked, path):
    assert asked.gateway.caller.ask("GET", path).status == 401
    assert asked.gateway.caller.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(("path", "status", "field"), PATHS.values(), ids=PATHS)
def test_a_model_that_is_not_granted_is_forbidden_in_the_shape_of_each_api(asked, path, status, field):
    answer = asked.gateway.caller.post(path, body("v1"), bearer(asked.keys["rag/echo"]))
    assert answer.status == status
    assert field in answer.json
    assert "may not use the model `v1`" in answer.body.decode()
    assert asked.gateway.caller.post(path, body("echo"), bearer(asked.keys["rag/echo"])).status == 200


@pytest.mark.parametrize("prefix", ["", "/model/proxy/echo"])
@pytest.mark.parametrize(("path", "field"), [(path, field) for path, _, field in PATHS.values()], ids=PATHS)
def test_a_bad_key_is_refused_in_the_shape_of_each_api(asked, prefix, path, field):
    answer = asked.gateway.caller.post(prefix + path + "?a=b", body("echo"))
    assert answer.status == 401
    assert field in answer.json


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/v1/rerank", (("x-gpustack-model", "v1"),), id="a header"),
        pytest.param("/model/proxy/v1/v1/rerank", (), id="the path"),
    ],
)
def test_a_model_named_elsewhere_than_in_the_body_is_checked_too(asked, path, headers):
    answer = asked.gateway.caller.post(path, body("echo"), (*headers, *bearer(asked.keys["rag/echo"])))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (403, "model_forbidden", "model")


@pytest.mark.parametrize(
    ("consumer", "host", "status"),
    [
        pytest.param("rag/echo", "echo.test", 200, id="a host of a granted model"),
        pytest.param("rag/echo", "ECHO.test:80", 200, id="the same, spelled otherwise"),
        pytest.param("rag/echo", "idle.test", 403, id="a host of another model"),
        pytest.param("rag/echo", "nobody.test", 400, id="a host of no model"),
        pytest.param("none", "echo.test", 403, id="no model granted"),
        pytest.param("all", "echo.test", 200, id="all models granted"),
    ],
)
def test_a_host_is_as_open_as_the_model_that_answers_there(asked, consumer, host, status):
    answer = asked.gateway.caller.post("/v1/rerank", body(None), bearer(asked.keys[consumer]), host)
    assert answer.status == status
    if status == 400:
        assert answer.error["code"] == "missing_model"


def test_what_does_not_exist_is_told_to_whom_all_is_open_and_forbidden_to_others(asked):
    post = asked.gateway.caller.post
    assert post("/v1/rerank", body("no-such"), bearer(asked.keys["all"])).status == 404
    assert post("/v1/rerank", body("no-such"), bearer(asked.keys["rag/echo"])).status == 403
    assert post("/v1/rerank", body("not-there"), bearer(asked.keys["none"])).status == 404
    assert post("/v1/nothing", body("echo"), bearer(asked.keys["none"])).error["code"] == "not_found"


def test_the_list_of_models_shows_what_its_reader_may_call(asked):
    def listed(consumer, *more):
        headers = (*bearer(asked.keys[consumer]), *more)
        return {m["id"] for m in asked.gateway.caller.ask("GET", "/v1/models", None, headers).json["data"]}

    assert listed("all") == {model.name for model in asked.gateway.models}
    assert listed("rag/echo") == {"echo"}
    assert listed("none") == set()
    assert listed("none", ("x-rerank-consumer", "all")) == set()
    one = asked.gateway.caller.ask("GET", "/v1/models/echo", None, bearer(asked.keys["rag/echo"]))
    assert one.json["id"] == "echo"
    hidden = asked.gateway.caller.ask("GET", "/v1/models/v1", None, bearer(asked.keys["rag/echo"]))
    assert (hidden.status, hidden.error["code"]) == (404, "model_not_found")


def test_a_large_body_meets_the_limit_behind_a_key_too(asked):
    large = b" " * (asked.gateway.settings.max_body_bytes + 1)
    headers = bearer(asked.keys["all"])
    assert asked.gateway.caller.post_chunked("/v1/rerank", large, headers).status == 413
    named = (*headers, ("x-gpustack-model", "echo"))
    assert asked.gateway.caller.post_chunked("/v1/rerank", large, named).status == 413


def test_the_access_log_names_the_consumer(asked, wait_for):
    asked.gateway.caller.post("/v1/rerank?log", body("echo"), bearer(asked.keys["rag/echo"]))
    asked.gateway.caller.post("/v1/rerank?log", body("v1"), bearer(asked.keys["rag/echo"]))
    asked.gateway.caller.post("/v1/rerank?log", body("echo"), bearer("nobody's"))
    file = asked.gateway.settings.access_log

    def entries():
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
        return [(e["consumer"], e["status"]) for e in lines if e["path"] == "/v1/rerank?log"]

    asked.gateway.administration("/stats")  # any work flushes nothing: the log is written each second or so
    wait_for(lambda: len(entries()) == 3)
    assert entries() == [("rag/echo", 200), ("rag/echo", 403), ("unknown_key", 401)]


def test_no_key_is_in_what_envoy_and_agent_know_or_write(asked, wait_for):
    key = asked.keys["all"]
    asked.gateway.caller.post("/v1/rerank?trace", body("echo"), bearer(key))
    wait_for(lambda: "?trace" in asked.gateway.settings.access_log.read_text())
    dump = asked.gateway.administration("/config_dump?include_eds")
    assert digest_of(key) in dump
    directory = asked.gateway.settings.socket_dir
    written = [path.read_text() for path in directory.iterdir() if path.is_file()]
    assert not any(key in text for text in (dump, asked.gateway.administration("/stats"), *written))


def test_envoy_warns_of_nothing_where_keys_are_asked_for(asked):
    assert asked.gateway.complaints() == []


class Load:
    """Two clients that ask without a pause, each time with the key that is current."""

    def __init__(self, gateway, key):
        self.key = key
        self.answers = Counter()
        self.sent = [0, 0]
        """By client, how many requests were answered."""
        self._gateway = gateway
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=(client,)) for client in range(2)]

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for client in self._clients:
            client.join()

    def each_sent_two_since(self, before):
        return all(now > then + 1 for now, then in zip(self.sent, before, strict=True))

    def _ask(self, client):
        while not self._over.is_set():
            answer = self._gateway.caller.post("/v1/rerank", body("echo"), bearer(self.key))
            self.answers[answer.status] += 1
            self.sent[client] += 1


def test_keys_are_replaced_under_load_without_a_failed_request(keyed_gateway, wait_for):
    keys = [make_key() for _ in range(6)]
    digests = [digest_of(key) for key in keys]
    with keyed_gateway(Consumer("app", (digests[0],), ("*",))) as gateway:

        def answers(key, status):
            wait_for(lambda: gateway.caller.post("/v1/rerank", body("echo"), bearer(key)).status == status)

        with Load(gateway, keys[0]) as load:
            for (old, new), (old_digest, new_digest) in zip(
                itertools.pairwise(keys), itertools.pairwise(digests), strict=True
            ):
                gateway.admit(Consumer("app", (old_digest, new_digest), ("*",)))
                answers(new, 200)
                load.key = new
                before = tuple(load.sent)  # the next of each may have the old key still
                wait_for(lambda before=before: load.each_sent_two_since(before))
                gateway.admit(Consumer("app", (new_digest,), ("*",)))
                answers(old, 401)
        said = gateway.complaints()
    assert set(load.answers) == {200}, load.answers
    assert said == [], "Envoy has nothing to say of keys, least of all the keys"


def test_grants_change_while_it_runs(keyed_gateway, wait_for):
    key = make_key()
    with keyed_gateway(Consumer("app", (digest_of(key),), ("v1",))) as gateway:

        def status():
            return gateway.caller.post("/v1/rerank", body("echo"), bearer(key)).status

        assert status() == 403
        gateway.admit(Consumer("app", (digest_of(key),), ("v1", "echo")))
        wait_for(lambda: status() == 200)
        gateway.admit()
        wait_for(lambda: status() == 401)


def test_without_consumers_everybody_is_refused_until_there_is_one(keyed_gateway, wait_for):
    key = make_key()
    with keyed_gateway() as gateway:
        for headers in ((), bearer(key), (("x-api-key", "!"),)):
            assert gateway.caller.post("/v1/rerank", body("echo"), headers).status == 401
        gateway.admit(Consumer("app", (digest_of(key),), ("*",)))
        wait_for(lambda: gateway.caller.post("/v1/rerank", body("echo"), bearer(key)).status == 200)


def test_keys_count_while_the_agent_is_away_and_after_it_is_back(keyed_gateway, wait_for):
    key = make_key()
    with keyed_gateway(Consumer("app", (digest_of(key),), ("*",))) as gateway:

        def status(headers):
            return gateway.caller.post("/v1/rerank", body("echo"), headers).status

        gateway.agent.send_signal(signal.SIGKILL)
        gateway.agent.wait()
        assert (status(bearer(key)), status(()), status(bearer("other"))) == (200, 401, 401)
        with gateway.another_agent():
            wait_for(lambda: gateway.caller.ask("GET", "/v1/models", None, bearer(key)).status == 200)
            assert (status(bearer(key)), status(())) == (200, 401)


def test_the_page_for_people_needs_no_key(keyed_gateway):
    page = {"match": {"path": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "page"}}}
    with keyed_gateway(page=page) as gateway:
        assert gateway.caller.ask("GET", "/").body == b"page"
        assert gateway.caller.ask("GET", "/?a=b").body == b"page"
        for path in ("//v1/models", "/x/../v1/models", "/./v1/rerank", "/%2e/v1/models"):
            assert gateway.caller.ask("GET", path).status == 401
