"""What one request or one worker does wrong costs nobody else; who leaves is gone at once."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_server import encoding
from rerank_server.admission import Limits, Refusal, Size
from rerank_server.batching import Batcher, BatchReport
from rerank_server.encoding import MANY_ROWS, SLICE_CHARACTERS, Encoder
from rerank_server.engine.batches import Budgets
from rerank_server.engine.interface import Outputs, Row
from rerank_server.errors import ClosedError, ComputeError, OverloadedError
from rerank_server.families.interface import Cut
from rerank_server.load import LoadedModel
from rerank_server.reranker import Report, RequestReport, Reranker
from rerank_server.workers import DEATHS, Staffing

POISON = 666
"""A token id that, in these tests, ends the thread of whoever computes it."""
QUERY = "What is a panda?"


class Fatal:
    """A real engine. The poison ends its thread; above a size it wants more memory than there is."""

    def __init__(self, engine: Any, most_tokens: int = 10**9) -> None:
        self._engine = engine
        self._most_tokens = most_tokens
        self.asked, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Run, or end this thread."""
        self.asked.set()
        self.gate.wait()
        if any(POISON in row.ids for row in rows):
            raise SystemExit
        if sum(len(row.ids) for row in rows) > self._most_tokens:
            raise MemoryError("no room")
        outputs: Outputs = self._engine.run(rows)
        return outputs


def rows(seed: int, count: int) -> list[Row]:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 30, count)
    return [Row(random.integers(1000, 9000, length).tolist(), [0] * int(length)) for length in lengths]


def alone(model: LoadedModel, request: Sequence[Row]) -> Outputs:
    return [model.engine.run([row])[0] for row in request]


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(1, 25), min_size=1, max_size=6),
    workers=st.integers(1, 3),
    full=st.integers(20, 400),
)
def test_however_requests_are_mixed_and_split_each_gets_its_own_outputs(
    counts: list[int], workers: int, full: int, minilm: LoadedModel
) -> None:
    budgets = Budgets(full=full, mixed=max(1, full // 4), least=16)
    batcher = Batcher(minilm.engine, budgets=budgets, staffing=Staffing(workers, 1))
    requests = [rows(seed, count) for seed, count in enumerate(counts)]

    async def main() -> list[Outputs]:
        computed = await asyncio.gather(*(batcher.run(request) for request in requests))
        return [each.outputs for each in computed]

    outputs = asyncio.run(main())
    assert set(batcher.queued.values()) == {0}
    batcher.close()
    for request, found in zip(requests, outputs, strict=True):
        np.testing.assert_allclose(np.stack(found), np.stack(alone(minilm, request)), atol=1e-5)


def test_a_worker_that_dies_costs_its_own_batch_and_is_replaced(minilm: LoadedModel) -> None:
    batcher = Batcher(Fatal(minilm.engine), budgets=Budgets.fixed(64), staffing=Staffing(2, 1))

    async def main() -> None:
        for _ in range(DEATHS):
            with pytest.raises(ComputeError, match="thread ended while it computed this request"):
                await batcher.run([Row([POISON, 5], [0, 0])])
            assert len((await batcher.run(rows(1, 40))).outputs) == 40

    asyncio.run(main())
    assert set(batcher.queued.values()) == {0}
    batcher.close()


def test_workers_that_keep_dying_end_the_service_and_nobody_waits_for_ever(minilm: LoadedModel) -> None:
    batcher = Batcher(Fatal(minilm.engine), budgets=Budgets.fixed(64))

    async def main() -> list[BaseException]:
        poisoned = [batcher.run([Row([POISON] * 60, [0] * 60)]) for _ in range(DEATHS + 3)]
        results = await asyncio.wait_for(asyncio.gather(*poisoned, return_exceptions=True), 240)
        return [result for result in results if isinstance(result, BaseException)]

    failures = asyncio.run(main())
    assert len(failures) == DEATHS + 3
    assert all(isinstance(failure, ComputeError) for failure in failures)
    with pytest.raises(ClosedError, match="keep ending"):
        asyncio.run(batcher.run(rows(1, 1)))
    batcher.close()


def test_a_batch_that_does_not_fit_into_memory_is_run_in_halves_and_later_ones_are_smaller(
    minilm: LoadedModel,
) -> None:
    sizes: list[int] = []
    engine = Fatal(minilm.engine, most_tokens=100)
    batcher = Batcher(engine, budgets=Budgets.fixed(256), observe=lambda report: sizes.append(report.tokens))
    request = rows(3, 60)
    outputs = asyncio.run(batcher.run(request)).outputs
    batcher.close()
    np.testing.assert_allclose(np.stack(outputs), np.stack(alone(minilm, request)), atol=1e-5)
    assert max(sizes) <= 100
    assert sum(sizes) == sum(len(row.ids) for row in request)


def test_other_workers_take_over_between_two_batches(minilm: LoadedModel) -> None:
    batcher = Batcher(minilm.engine, budgets=Budgets.fixed(64), staffing=Staffing(1, 2))

    async def main() -> int:
        running = asyncio.ensure_future(batcher.run(rows(1, 100)))
        await asyncio.sleep(0)
        batcher.staff(Staffing(2, 1), 5000.0)
        return len((await running).outputs)

    assert asyncio.run(main()) == 100
    assert batcher.staffing == Staffing(2, 1)
    batcher.close()


def blocked(minilm: LoadedModel, limits: Limits) -> tuple[Reranker, Fatal, list[Report]]:
    """Return a reranker whose engine waits."""
    engine, reports = Fatal(minilm.engine), list[Report]()
    engine.gate.clear()
    model = dataclasses.replace(minilm, engine=engine)
    return Reranker(model, observe=reports.append, limits=limits, cores=1), engine, reports


def test_ten_times_what_may_wait_is_refused_but_for_a_tenth_and_that_is_answered(
    minilm: LoadedModel,
) -> None:
    limits = Limits(large_from=10_000, tokens=2_000)
    reranker, engine, reports = blocked(minilm, limits)
    most: list[int] = []

    async def ask(number: int) -> int:
        try:
            scores = await reranker.score(QUERY, [f"{number} {place} bamboo" for place in range(5)])
        except OverloadedError:
            return 0
        finally:
            most.append(reranker.load.tokens[Size.SMALL])
        return len(scores.values)

    async def main() -> list[int]:
        asked = [asyncio.ensure_future(ask(number)) for number in range(400)]
        await asyncio.sleep(0.2)
        engine.gate.set()
        return await asyncio.gather(*asked)

    answers = asyncio.run(main())
    refused = [report for report in reports if isinstance(report, Refusal)]
    assert all(1 <= refusal.retry_after <= 60 for refusal in refused)
    assert set(answers) == {0, 5}
    assert len(refused) == answers.count(0) > 200
    assert max(most) <= 2 * 2_000, "the estimate of tokens may be off, but not by much"
    assert (reranker.load.requests, reranker.load.characters, reranker.queued_tokens) == (0, 0, 0)
    reranker.close()


def test_a_large_request_does_not_turn_small_ones_away(minilm: LoadedModel) -> None:
    reranker, engine, _ = blocked(minilm, Limits(large_from=1_000, tokens=1_200))

    async def main() -> None:
        large = asyncio.ensure_future(
            reranker.score(QUERY, [f"{n} bears eat bamboo all day" for n in range(800)])
        )
        await asyncio.sleep(0)
        assert reranker.load.tokens[Size.LARGE] > 1_200
        small = asyncio.ensure_future(reranker.score(QUERY, ["bamboo"]))
        with pytest.raises(OverloadedError, match="of large requests wait"):
            await reranker.score(QUERY, [f"{n} pandas eat bamboo all day" for n in range(800)])
        engine.gate.set()
        assert len((await small).values) == 1
        assert len((await large).values) == 800

    asyncio.run(main())
    reranker.close()


def test_a_caller_that_leaves_while_its_texts_are_tokenized_is_gone_at_once(minilm: LoadedModel) -> None:
    reranker, engine, _ = blocked(minilm, Limits(large_from=1_000))
    tokenized: list[int] = []
    ranker = reranker.loaded.ranker
    encode, halt = ranker.encode_documents, threading.Event()

    def slowly(*arguments: Any) -> list[Row]:
        halt.wait()
        tokenized.append(len(arguments[1]))
        return encode(*arguments)

    slow = dataclasses.make_dataclass("Slow", ["encode_query", "encode_documents", "scores"])
    reranker._encoder._ranker = slow(ranker.encode_query, slowly, ranker.scores)

    async def main() -> None:
        large = asyncio.ensure_future(reranker.score(QUERY, ["bamboo " * 20] * 1280))
        await asyncio.sleep(0.05)
        assert reranker.load.requests == 1
        assert reranker.queued_tokens > 0
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert (reranker.load.requests, reranker.queued_tokens) == (0, 0)
        halt.set()
        engine.gate.set()
        assert len((await reranker.score(QUERY, ["bamboo"])).values) == 1

    asyncio.run(main())
    reranker.close()
    assert sum(tokenized) <= 128 + 1, "only the slice that was being tokenized is finished"


def test_warming_up_measures_how_cores_are_used_and_bounds_the_queue_by_the_speed(
    minilm: LoadedModel,
) -> None:
    reranker = Reranker(minilm, limits=Limits(large_from=100), cores=2)
    asyncio.run(reranker.warm_up())
    assert reranker.staffing in {Staffing(2, 1), Staffing(1, 2)}
    assert reranker.tokens_per_second is not None
    assert reranker._ledger.limits.tokens == max(400, int(30 * reranker.tokens_per_second))
    asyncio.run(reranker.warm_up(workers=3, queue_tokens=777))
    assert reranker.staffing == Staffing(3, 1)
    assert reranker._ledger.limits.tokens == 777
    reranker.close()


@pytest.mark.parametrize("bound", ["max_document_tokens", "max_row_tokens"])
def test_documents_that_are_cut_on_request_do_not_spoil_the_estimate_for_others(
    bound: str, minilm: LoadedModel
) -> None:
    reranker = Reranker(minilm)
    before = reranker._estimate.tokens("", ["x" * 500])
    asyncio.run(reranker.score("?", ["bears eat bamboo " * 50] * 100, **{bound: 5}))  # type: ignore[arg-type]
    assert reranker._estimate.tokens("", ["x" * 500]) == before
    reranker.close()


def test_a_request_of_more_tokens_than_its_characters_say_is_a_large_one_once_they_are_counted(
    minilm: LoadedModel,
) -> None:
    reranker, engine, reports = blocked(minilm, Limits(large_from=2_000))
    dense = [f"{number} " + "東 " * 40 for number in range(60)]

    async def main() -> None:
        request = asyncio.ensure_future(reranker.score(QUERY, dense))
        await asyncio.sleep(0)
        assert 0 < reranker.load.tokens[Size.SMALL] < 2_000
        await asyncio.to_thread(engine.asked.wait, 60)
        assert reranker.load.tokens[Size.SMALL] == 0
        assert reranker.load.tokens[Size.LARGE] > 2_000 - 512, "but for the batch that is running"
        engine.gate.set()
        await request

    asyncio.run(main())
    assert [report.size for report in reports if isinstance(report, RequestReport)] == [Size.LARGE]
    assert set(reranker.load.tokens.values()) == {0}
    reranker.close()


class Recording:
    """A real ranker that notes what runs on which thread."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.noted: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        def noted(*arguments: Any) -> Any:
            self.noted.append((name, threading.current_thread().name.rpartition("_")[0]))
            return getattr(self._ranker, name)(*arguments)

        return noted


@pytest.mark.parametrize(
    ("query", "document", "thread"),
    [
        pytest.param("?", "bamboo", "tokenizer-small", id="short"),
        pytest.param("?", "x" * SLICE_CHARACTERS + "x", "tokenizer-large", id="a document"),
        pytest.param(" " * SLICE_CHARACTERS + "?", "bamboo", "tokenizer-large", id="a query"),
    ],
)
def test_a_text_of_megabytes_is_not_tokenized_on_the_thread_of_small_requests(
    query: str, document: str, thread: str, minilm: LoadedModel
) -> None:
    ranker = Recording(minilm.ranker)
    encoder = Encoder(ranker, minilm.max_length)
    asyncio.run(encoder.encode(query, ["a", document], Cut("document"), None, Size.SMALL))
    encoder.close()
    assert {name for name, _ in ranker.noted} == {"encode_query", "encode_documents"}
    assert {there for _, there in ranker.noted} == {thread}


def test_what_looks_at_each_of_many_rows_is_not_done_on_the_event_loop(
    minilm: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker, distinct = Recording(minilm.ranker), encoding.distinct_rows
    encoder = Encoder(ranker, minilm.max_length)

    def noted(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
        ranker.noted.append(("distinct_rows", threading.current_thread().name.rpartition("_")[0]))
        return distinct(rows)

    monkeypatch.setattr(encoding, "distinct_rows", noted)

    async def threads_of(count: int) -> dict[str, str]:
        ranker.noted.clear()
        found = await encoder.encode("?", ["bamboo"] * count, Cut("document"), None, Size.LARGE)
        await encoder.compare([np.ones(8, dtype=np.float32)] * len(found.rows), found.rows, Size.LARGE)
        return dict(ranker.noted)

    few, many = asyncio.run(threads_of(2)), asyncio.run(threads_of(MANY_ROWS))
    encoder.close()
    assert (few["distinct_rows"], few["scores"]) == ("", ""), "a turn of the thread costs more than that"
    assert (many["distinct_rows"], many["scores"]) == ("tokenizer-large", "tokenizer-large")


def test_a_closed_tokenizer_refuses_the_next_slice_and_the_comparison_as_closed(
    minilm: LoadedModel,
) -> None:
    encoder = Encoder(minilm.ranker, minilm.max_length)
    encoder.close()
    outputs = [np.ones((2, 8), dtype=np.float32)] * 2
    with pytest.raises(ClosedError):
        asyncio.run(encoder.encode("?", ["bamboo"], Cut("document"), None, Size.SMALL))
    with pytest.raises(ClosedError):
        asyncio.run(encoder.compare(outputs, rows(1, 2), Size.SMALL))


class Gpu:
    """A real engine that passes for one on a GPU, and is slow the first few times."""

    device = "cuda:0"

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Run; at first kernels are loaded."""
        self.batches.append(sum(len(row.ids) for row in rows))
        time.sleep(5.0 if len(self.batches) <= 2 else 0.1)
        return [np.ones(8, dtype=np.float32) for _ in rows]


def test_warming_up_on_a_gpu_measures_full_batches_once_kernels_are_loaded(minilm: LoadedModel) -> None:
    engine = Gpu(minilm.engine)
    reports: list[Report] = []
    model = dataclasses.replace(minilm, engine=engine, batch_tokens=2048)
    reranker = Reranker(model, observe=reports.append, limits=Limits(large_from=100))
    asyncio.run(reranker.warm_up())
    assert len(engine.batches) >= 8
    assert max(engine.batches) <= 2048
    assert sum(engine.batches) / len(engine.batches) > 0.75 * 2048, "batches are full"
    assert reranker.tokens_per_second is not None
    assert reranker._ledger.limits.tokens is not None
    assert reranker._ledger.limits.tokens > 30 * 2048 / 0.5, "two workers, a full batch in 0.1 s each"
    assert reranker.staffing == Staffing(2)
    assert all(isinstance(report, BatchReport) for report in reports), "no request of anybody's"
    asyncio.run(reranker.warm_up(workers=3, queue_tokens=777))
    assert reranker.staffing == Staffing(3)
    assert reranker._ledger.limits.tokens == 777
    reranker.close()
