"""A request of many queries is let in with all of them, before any is begun, or not at all."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.rerank_model import RerankModel
from rerank_server.faces import vllm_score
from rerank_server.faces.interface import Asked
from rerank_server.faces.routes import QUERIES_AT_ONCE, _rank_all
from rerank_server.lifecycle import Lifecycle
from rerank_server.reranker import Report, Reranker
from rerank_server.serving import Work
from rerank_server.settings import Settings

QUERIES = 3 * QUERIES_AT_ONCE


class Halting:
    """A real ranker that encodes no document before it may, and tells when it was asked to."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.asked, self.gate = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ranker, name)

    def encode_documents(self, *arguments: Any) -> Any:
        """Wait first."""
        self.asked.set()
        assert self.gate.wait(60)
        return self._ranker.encode_documents(*arguments)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that has no event."""
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def scores_of(count: int) -> Asked:
    """Ask for as many queries with a document each."""
    queries = [f"Which panda is number {number}?" for number in range(count)]
    return vllm_score.read({"queries": queries, "documents": ["panda"] * count})


@pytest.fixture
def ready(make_manifest: Any) -> Iterator[Callable[..., tuple[Lifecycle, Reranker, Halting, list[Report]]]]:
    """Bring models up in this process, whose tokenizer halts."""
    up: list[Lifecycle] = []

    def bring_up(**settings: Any) -> tuple[Lifecycle, Reranker, Halting, list[Report]]:
        manifest = RerankModel.model_validate(make_manifest())
        reports: list[Report] = []
        lifecycle = Lifecycle(manifest, Settings(workers=1, **settings), reports.append)
        asyncio.run(lifecycle.bring_up())
        up.append(lifecycle)
        assert lifecycle.reranker is not None
        ranker = Halting(lifecycle.reranker.loaded.ranker)
        lifecycle.reranker._encoder._ranker = ranker
        reports.clear()
        return lifecycle, lifecycle.reranker, ranker, reports

    yield bring_up
    for lifecycle in up:
        lifecycle.close()


def test_a_full_queue_refuses_all_queries_of_a_request_before_the_first(ready: Any) -> None:
    lifecycle, reranker, ranker, reports = ready(queue_requests=2)

    async def story() -> None:
        first, second = (
            asyncio.ensure_future(_rank_all(lifecycle, scores_of(QUERIES), None, Work())) for _ in range(2)
        )
        await asyncio.to_thread(ranker.asked.wait, 60)
        assert reranker.load.requests == 2
        estimated = reranker.queued_tokens
        assert estimated >= 2 * QUERIES
        with pytest.raises(ApiError) as refused:
            await _rank_all(lifecycle, scores_of(QUERIES), None, Work())
        assert refused.value.code is ErrorCode.OVERLOADED
        assert reranker.queued_tokens == estimated
        assert len(reports) == 1, "one refusal, and nothing that was computed"
        ranker.gate.set()
        assert [len(await each) for each in (first, second)] == [QUERIES, QUERIES]

    asyncio.run(story())
    assert (reranker.load.requests, reranker.load.characters, reranker.queued_tokens) == (0, 0, 0)


def test_a_request_that_was_let_in_is_answered_whole_when_the_server_drains(ready: Any) -> None:
    lifecycle, _, ranker, _ = ready()

    async def story() -> None:
        request = asyncio.ensure_future(_rank_all(lifecycle, scores_of(QUERIES), None, Work()))
        await asyncio.to_thread(ranker.asked.wait, 60)
        lifecycle.drain()
        with pytest.raises(ApiError) as refused:
            await _rank_all(lifecycle, scores_of(1), None, Work())
        assert refused.value.code is ErrorCode.MODEL_NOT_READY
        ranker.gate.set()
        assert len(await request) == QUERIES

    asyncio.run(story())


def test_one_query_that_fails_ends_the_others_and_leaves_nothing_behind(ready: Any) -> None:
    lifecycle, reranker, ranker, _ = ready()
    ranker.gate.set()
    queries = [f"Which panda is number {number}?" for number in range(QUERIES)]
    asked = vllm_score.read({"text_1": [*queries, "panda " * 600], "text_2": ["panda"] * (QUERIES + 1)})

    async def story() -> None:
        with pytest.raises(ApiError) as refused:
            await _rank_all(lifecycle, asked, None, Work())
        assert (refused.value.code, refused.value.param) == (ErrorCode.INVALID_VALUE, f"text_1[{QUERIES}]")
        assert (reranker.load.requests, reranker.load.characters) == (0, 0)
        await asyncio.to_thread(until, lambda: reranker.queued_tokens == 0)

    asyncio.run(story())


def test_a_request_that_is_tokenized_while_its_model_is_closed_is_sent_elsewhere(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle, reranker, ranker, _ = ready()
    stopped: list[None] = []
    monkeypatch.setattr(lifecycle, "model_stopped", lambda: stopped.append(None))
    asked = vllm_score.read({"text_1": "panda", "text_2": [f"{number}" for number in range(500)]})

    async def story() -> None:
        request = asyncio.ensure_future(_rank_all(lifecycle, asked, None, Work()))
        await asyncio.to_thread(ranker.asked.wait, 60)
        closing = asyncio.ensure_future(asyncio.to_thread(reranker.close))
        await asyncio.to_thread(until, lambda: reranker._encoder._closed)
        ranker.gate.set()
        with pytest.raises(ApiError) as refused:
            await request
        await closing
        assert (refused.value.status, refused.value.code) == (503, ErrorCode.MODEL_NOT_READY)
        assert refused.value.retry_after
        assert "loaded anew" in refused.value.message

    asyncio.run(story())
    assert not stopped, "nothing has ended by itself"
