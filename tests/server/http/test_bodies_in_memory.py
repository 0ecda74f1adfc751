"""How many bytes of bodies a server holds at once."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import MAX_BODY_BYTES
from rerank_server.body import MOST_BYTES, Bodies, read_json
from rerank_server.deadlines import Deadline

DEADLINE = Deadline(300.0, 300.0, began=time.monotonic())


def request(*chunks: bytes, announced: int | None = None) -> Request:
    """Return a request whose body comes in these chunks."""
    messages: Iterator[dict[str, Any]] = iter(
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks)}
        for place, chunk in enumerate(chunks, 1)
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    headers = [] if announced is None else [(b"content-length", str(announced).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_bodies_count_from_their_arrival_until_their_requests_are_answered() -> None:
    bodies = Bodies(largest=100, most=250)

    async def story() -> None:
        with bodies.hold() as first, bodies.hold() as second, bodies.hold() as third:
            assert await read_json(request(b"[1", b" " * 97, b"]", announced=100), first, DEADLINE) == [1]
            assert await read_json(request(b"[2", b" " * 97, b"]"), second, DEADLINE) == [2]
            assert bodies.bytes == 200
            with pytest.raises(ApiError) as refused:
                await read_json(request(b"[" * 51, announced=51), third, DEADLINE)
            assert (refused.value.code, refused.value.retry_after) == (ErrorCode.OVERLOADED, 2)
            with pytest.raises(ApiError) as refused:
                await read_json(request(b"[" * 50, b"]"), third, DEADLINE)
            assert refused.value.code is ErrorCode.OVERLOADED
        assert bodies.bytes == 0
        with bodies.hold() as fourth:
            assert await read_json(request(b"4", announced=1), fourth, DEADLINE) == 4

    asyncio.run(story())


@pytest.mark.parametrize("announced", [101, None])
def test_one_that_is_too_large_by_itself_is_told_so_and_counts_no_longer(announced: int | None) -> None:
    bodies = Bodies(largest=100, most=250)
    with pytest.raises(ApiError) as refused, bodies.hold() as held:
        asyncio.run(read_json(request(b"[" * 101, announced=announced), held, DEADLINE))
    assert refused.value.code is ErrorCode.REQUEST_TOO_LARGE
    assert bodies.bytes == 0


def test_a_body_above_the_bound_of_all_is_read_where_it_is_the_only_one() -> None:
    bodies = Bodies(largest=1000, most=250)
    with bodies.hold() as held:
        assert asyncio.run(read_json(request(b" " * 299, b"1", announced=300), held, DEADLINE)) == 1


def test_what_is_announced_and_never_sent_costs_nobody_anything(minilm: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MOST_BYTES // MAX_BODY_BYTES):
            connection = stack.enter_context(contextlib.closing(minilm.connect()))
            connection.putrequest("POST", "/v1/rerank")
            connection.putheader("Content-Length", str(MAX_BODY_BYTES))
            connection.endheaders(b'{"query": "q",')
        assert minilm.rerank(query="q", documents=["a"])[0] == 200


def test_slow_connections_cannot_fill_the_memory_and_leave_room_once_they_are_gone(minilm: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_BYTES // MAX_BODY_BYTES):
            connection = stack.enter_context(contextlib.closing(minilm.connect()))
            connection.putrequest("POST", "/v1/rerank")
            connection.putheader("Content-Length", str(MAX_BODY_BYTES))
            connection.endheaders(b'{"query": "q",'.ljust(MAX_BODY_BYTES - 1))
        body = json.dumps({"query": "q", "documents": ["a"]}).encode().ljust(MAX_BODY_BYTES)
        give_up = time.monotonic() + 120
        while (answer := minilm.full("POST", "/v1/rerank", body))[0] == 200:
            assert time.monotonic() < give_up, "not all of them are being read"
        status, headers, error = answer
        assert (status, error["error"]["code"], headers["retry-after"]) == (429, "overloaded", "2")
    give_up = time.monotonic() + 120
    while minilm.full("POST", "/v1/rerank", body)[0] != 200:
        assert time.monotonic() < give_up
