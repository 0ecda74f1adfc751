"""What the gateway does before its agent speaks, and after it fell silent."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

BODY = b'{"model":"echo"}'


def test_envoy_takes_no_request_before_the_agent_spoke_and_keeps_serving_when_it_dies(
    gateway_parts: Any, wait_for: Callable[..., Any]
) -> None:
    settings, run_agent, run_envoy = gateway_parts
    with run_envoy() as caller:
        wait_for(settings.admin_socket.exists)
        with pytest.raises(ConnectionRefusedError):
            caller.ask("GET", "/healthz")

        with run_agent():
            wait_for(lambda: caller.ask("GET", "/healthz").status == 200)
            assert caller.post("/v1/rerank", BODY).status == 200
            assert caller.ask("GET", "/v1/models").status == 200

        away = caller.ask("GET", "/v1/models")
        assert (away.status, away.error["code"], away.headers["retry-after"]) == (
            503,
            "gateway_starting",
            "2",
        )
        assert caller.post("/v1/rerank", BODY).status == 200

        with run_agent():
            wait_for(lambda: caller.ask("GET", "/v1/models").status == 200)
            assert caller.post("/v1/rerank", BODY).status == 200


def test_an_envoy_that_starts_knows_the_last_of_thousands_of_models_with_its_first_answer(
    gateway_parts: Any,
) -> None:
    _, run_agent, run_envoy = gateway_parts
    names = [f"m{number:04}" for number in range(4_000)]  # more than one response holds

    def first_answer(caller: Any, model: str) -> int:
        give_up = time.monotonic() + 120
        while True:
            try:
                return int(caller.post("/v1/rerank", json.dumps({"model": model}).encode()).status)
            except ConnectionRefusedError:
                assert time.monotonic() < give_up
                time.sleep(0.001)

    with run_agent(*names), run_envoy() as caller:
        assert first_answer(caller, names[-1]) == 200


def test_a_failing_lua_filter_gives_the_one_error_body_and_reaches_no_model(
    gateway_parts: Any, wait_for: Callable[..., Any]
) -> None:
    _, run_agent, run_envoy = gateway_parts
    broken = "function envoy_on_request(handle) error('broken') end"
    with run_agent(), run_envoy(broken) as caller:
        wait_for(lambda: caller.ask("GET", "/healthz").status == 200)
        reply = caller.post("/v1/rerank", BODY)
        assert (reply.status, reply.error["code"]) == (500, "internal")
        assert "x-request-id" in reply.error["message"]
