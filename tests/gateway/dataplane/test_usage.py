"""What answers cost, through a real Envoy and the real agent: in the log, unseen by callers."""

import json

import pytest

METERED = json.dumps(
    {"model": "metered", "query": "q", "documents": ["a", "b", "c"], "tokens": 1234}
).encode()


def logged(gateway, path):
    lines = gateway.settings.access_log.read_text().splitlines()
    return [entry for line in lines if line.endswith("}") and (entry := json.loads(line))["path"] == path]


def test_the_access_log_has_what_an_answer_cost_as_numbers_and_its_caller_sees_no_header_of_it(
    gateway, wait_for
):
    answer = gateway.caller.post("/v1/rerank?cost", METERED)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("x-rerank")]
    wait_for(lambda: logged(gateway, "/v1/rerank?cost"))
    (entry,) = logged(gateway, "/v1/rerank?cost")
    assert (entry["documents"], entry["tokens"]) == (3, 1234)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        pytest.param("spoofed", b'{"model": "echo"}', id="a server that says nothing of it"),
        pytest.param("refused", b'{"model": "nothing"}', id="no server"),
    ],
)
def test_a_caller_cannot_say_what_its_request_costs(gateway, wait_for, query, body):
    path = f"/v1/rerank?{query}"
    gateway.caller.post(path, body, (("x-rerank-tokens", "-5"), ("X-Rerank-Documents", "7")))
    wait_for(lambda: logged(gateway, path))
    (entry,) = logged(gateway, path)
    assert (entry["documents"], entry["tokens"]) == (None, None)
