"""Workers run the rows of many requests in batches that they share, and what fails costs no one else."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch

from rerank_server import jobs
from rerank_server.batching import Batcher, BatchReport
from rerank_server.engine import batches
from rerank_server.engine.batches import Budgets
from rerank_server.engine.interface import Engine, Outputs, Row
from rerank_server.errors import ClosedError, ComputeError
from rerank_server.load import LoadedModel
from rerank_server.workers import Staffing

IMPOSSIBLE = Row([10**6, 1], [0, 0])
"""A token id that no table has: torch itself fails on any batch that holds it."""
FULL = 256
EVEN = [Row([number] * 10, [0] * 10) for number in range(10, 34)]
"""240 tokens: a batch that aims at `FULL` holds them all."""


class GatedEngine:
    """A real engine that waits for a gate before each batch, and notes what it ran."""

    name = "gated"
    device = "cpu"
    dtype = "float32"

    def __init__(self, engine: Engine) -> None:
        self.gate = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self.batches: list[int] = []
        self._engine = engine
        self.positions = engine.positions

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Run like the engine, once it may."""
        self.reached.release()
        self.gate.acquire()
        self.batches.append(len(rows))
        return self._engine.run(rows)

    async def until_reached(self) -> None:
        """Wait until a batch stands at the gate."""
        await asyncio.to_thread(self.reached.acquire)

    def open(self) -> None:
        """Let everything pass from now on."""
        self.gate.release(10_000)


class Fallible:
    """A real engine that fails as it is told to: before each batch it asks `trouble`."""

    name = "fallible"
    device = "cpu"
    dtype = "float32"

    def __init__(self, engine: Engine) -> None:
        self.trouble: Callable[[Sequence[Row]], None] = lambda _: None
        self.ran: list[int] = []
        """Tokens of each batch that did not fail."""
        self._engine = engine
        self.positions = engine.positions

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Run like the engine, or fail."""
        self.trouble(rows)
        self.ran.append(sum(len(row.ids) for row in rows))
        return self._engine.run(rows)

    def fail(self, error: Exception) -> None:
        """Fail on everything from now on."""

        def raise_it(_: Sequence[Row]) -> None:
            raise error

        self.trouble = raise_it

    def hold(self, tokens: int) -> None:
        """Have memory for so many tokens from now on."""

        def refuse_more(rows: Sequence[Row]) -> None:
            if sum(len(row.ids) for row in rows) > tokens:
                torch.empty(1 << 58)

        self.trouble = refuse_more


@pytest.fixture
def fallible(loaded_bert: LoadedModel) -> Fallible:
    """Give the random BERT, which can be told to fail."""
    return Fallible(loaded_bert.engine)


@pytest.fixture
def gated(loaded_bert: LoadedModel) -> GatedEngine:
    """Give the random BERT behind a gate."""
    return GatedEngine(loaded_bert.engine)


def rows(seed: int, count: int = 3) -> list[Row]:
    """Make rows of a few lengths."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 12, count)
    return [Row(random.integers(5, 90, length).tolist(), [0] * int(length)) for length in lengths]


async def run(batcher: Batcher, request: Sequence[Row]) -> Outputs:
    """Return what the engine gave for each row."""
    return (await batcher.run(request)).outputs


def queued(batcher: Batcher) -> int:
    """Return the tokens of all sizes that wait."""
    return sum(batcher.queued.values())


def expected(model: LoadedModel, request: Sequence[Row]) -> Outputs:
    """Run each row by itself."""
    return [model.engine.run([row])[0] for row in request]


def test_32_concurrent_requests_share_batches_and_each_gets_its_own_scores(
    gated: GatedEngine, loaded_bert: LoadedModel
) -> None:
    reports: list[BatchReport] = []
    batcher = Batcher(gated, budgets=Budgets.fixed(256), observe=reports.append)
    requests = [rows(seed) for seed in range(32)]

    async def main() -> list[Outputs]:
        first = asyncio.ensure_future(run(batcher, rows(99)))
        await gated.until_reached()
        everyone = asyncio.gather(*(run(batcher, request) for request in requests))
        await asyncio.sleep(0)
        assert queued(batcher) == sum(len(row.ids) for request in requests for row in request)
        gated.open()
        await first
        return await everyone

    results = asyncio.run(main())
    batcher.close()
    for request, result in zip(requests, results, strict=True):
        np.testing.assert_allclose(result, expected(loaded_bert, request), atol=1e-5)
    assert sum(gated.batches) == 33 * 3
    assert len(gated.batches) < 8
    assert all(report.tokens <= 256 and report.padded_tokens >= report.tokens for report in reports)
    assert sum(report.rows for report in reports) == 33 * 3
    assert queued(batcher) == 0
    assert batcher.tokens_per_second is not None


@pytest.mark.parametrize("impossible_first", [True, False])
def test_a_request_that_the_model_fails_on_costs_nobody_else(
    impossible_first: bool, gated: GatedEngine, loaded_bert: LoadedModel
) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(512))
    good = [rows(seed) for seed in range(4)]
    bad = [IMPOSSIBLE, *rows(50, 40)]

    async def main() -> list[Outputs | BaseException]:
        first = asyncio.ensure_future(run(batcher, rows(99)))
        await gated.until_reached()
        order = [bad, *good] if impossible_first else [*good, bad]
        everyone = asyncio.gather(*(run(batcher, request) for request in order), return_exceptions=True)
        await asyncio.sleep(0)
        gated.open()
        await first
        results = await everyone
        return results if impossible_first else [results[-1], *results[:-1]]

    failed, *results = asyncio.run(main())
    assert isinstance(failed, ComputeError)
    assert "IndexError" in str(failed)
    for request, result in zip(good, results, strict=True):
        np.testing.assert_allclose(result, expected(loaded_bert, request), atol=1e-5)

    again = asyncio.run(run(batcher, good[0]))
    np.testing.assert_allclose(again, expected(loaded_bert, good[0]), atol=1e-5)
    assert queued(batcher) == 0, "rows of a failed request leave the queue"
    batcher.close()


def test_the_rows_of_a_cancelled_caller_leave_the_queue_at_once(gated: GatedEngine) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(64))

    async def main() -> None:
        first = asyncio.ensure_future(run(batcher, rows(1)))
        await gated.until_reached()
        cancelled = asyncio.ensure_future(run(batcher, rows(2, 200)))
        kept = asyncio.ensure_future(run(batcher, rows(3)))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert queued(batcher) == sum(len(row.ids) for row in rows(3))
        gated.open()
        await asyncio.gather(first, kept)

    asyncio.run(main())
    batcher.close()
    assert sum(gated.batches) == 6, "none of the 200 rows was computed"


def test_a_caller_cancelled_while_its_batch_runs_harms_nobody(gated: GatedEngine) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(64))

    async def main() -> Outputs:
        running = asyncio.ensure_future(run(batcher, rows(1)))
        await gated.until_reached()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        gated.open()
        return await run(batcher, rows(2))

    assert len(asyncio.run(main())) == 3
    batcher.close()


def test_a_small_request_passes_a_large_one(gated: GatedEngine) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(60))

    async def main() -> bool:
        large = asyncio.ensure_future(run(batcher, EVEN * 10))
        await gated.until_reached()
        small = asyncio.ensure_future(run(batcher, EVEN[:2]))
        await asyncio.sleep(0)
        gated.gate.release(2)
        try:
            await asyncio.wait_for(small, 120)
            return large.done()
        finally:
            gated.open()
            await large

    try:
        assert not asyncio.run(main())
    finally:
        batcher.close()


def test_a_row_longer_than_the_budget_runs_alone(loaded_bert: LoadedModel) -> None:
    batcher = Batcher(loaded_bert.engine, budgets=Budgets.fixed(4))
    request = [Row([7] * 90, [0] * 90), Row([8] * 3, [0] * 3)]
    result = asyncio.run(asyncio.wait_for(run(batcher, request), timeout=60))
    batcher.close()
    np.testing.assert_allclose(result, expected(loaded_bert, request), atol=1e-5)


def test_close_finishes_what_is_queued_and_takes_no_more(gated: GatedEngine) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(32))

    async def main() -> Outputs:
        queued = asyncio.ensure_future(run(batcher, rows(1, 30)))
        await gated.until_reached()
        gated.open()
        await asyncio.to_thread(batcher.close)
        with pytest.raises(ClosedError, match="shutting down"):
            await run(batcher, rows(2))
        return await queued

    assert [vector.shape for vector in asyncio.run(main())] == [(1,)] * 30


def test_a_budget_of_nothing_is_refused(loaded_bert: LoadedModel) -> None:
    with pytest.raises(ValueError, match="at least"):
        Batcher(loaded_bert.engine, budgets=Budgets.fixed(0))


def test_a_measurement_that_fails_costs_no_request_and_no_second_run(
    gated: GatedEngine, loaded_bert: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: BatchReport) -> None:
        raise ValueError("no such bucket")

    batcher = Batcher(gated, budgets=Budgets.fixed(256), observe=broken)
    gated.open()
    vectors = asyncio.run(run(batcher, rows(1)))
    batcher.close()
    np.testing.assert_allclose(vectors, expected(loaded_bert, rows(1)), atol=1e-5)
    assert gated.batches == [3]
    assert "could not be measured" in caplog.text


def aimed_at(batcher: Batcher, engine: Fallible) -> int:
    """Return the tokens of the largest batch of a request that is larger than any aim of these tests."""
    engine.ran.clear()
    asyncio.run(run(batcher, EVEN * 3))
    return max(engine.ran)


def test_what_torch_refuses_on_a_cpu_is_run_in_halves(fallible: Fallible, loaded_bert: LoadedModel) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(FULL))
    fallible.hold(50)
    found = asyncio.run(run(batcher, EVEN))
    batcher.close()
    np.testing.assert_allclose(found, expected(loaded_bert, EVEN), atol=1e-5)


def test_a_batch_that_does_not_fit_halves_the_aim_once_and_many_that_fit_undo_it(
    fallible: Fallible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "GROWS_AFTER", 20)
    batcher = Batcher(fallible, budgets=Budgets.fixed(FULL))
    fallible.hold(20)
    asyncio.run(run(batcher, EVEN))
    assert max(fallible.ran) == 20, "the batch was run in sixteenths"
    fallible.hold(10**9)
    assert aimed_at(batcher, fallible) == FULL // 2 // 10 * 10
    for _ in range(20):
        asyncio.run(run(batcher, EVEN[:1]))
    assert aimed_at(batcher, fallible) == FULL // 10 * 10
    batcher.close()


def test_a_row_that_does_not_fit_by_itself_leaves_everybody_elses_batches_as_they_are(
    fallible: Fallible,
) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(FULL))

    def refuse_long_rows(rows: Sequence[Row]) -> None:
        if any(len(row.ids) > 50 for row in rows):
            raise MemoryError

    fallible.trouble = refuse_long_rows
    for request in ([Row([7] * 90, [0] * 90), *EVEN[:12]], [Row([7] * 90, [0] * 90)]):
        with pytest.raises(ComputeError, match="MemoryError"):
            asyncio.run(run(batcher, request))
    assert aimed_at(batcher, fallible) == FULL // 10 * 10
    batcher.close()


def test_workers_that_run_out_of_memory_together_halve_the_aim_once(fallible: Fallible) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(FULL), staffing=Staffing(2, 1))
    both = threading.Barrier(2)

    def refuse_together(rows: Sequence[Row]) -> None:
        if sum(len(row.ids) for row in rows) > 150:
            both.wait(30)
            raise MemoryError

    fallible.trouble = refuse_together
    asyncio.run(run(batcher, EVEN * 2))
    fallible.hold(10**9)
    assert aimed_at(batcher, fallible) == FULL // 2 // 10 * 10
    batcher.close()


def test_an_engine_that_fails_on_everything_ends_the_service(fallible: Fallible) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(64), staffing=Staffing(2, 1))

    async def main() -> list[Any]:
        await run(batcher, rows(1))
        fallible.fail(RuntimeError("CUDA error: an illegal memory access was encountered"))
        requests = [run(batcher, rows(seed, 30)) for seed in range(5)]
        failures = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 120)
        with pytest.raises(ClosedError, match="fails on everything"):
            await run(batcher, rows(2))
        return failures

    first, *others = asyncio.run(main())
    assert isinstance(first, ComputeError)
    assert all(isinstance(other, (ComputeError, ClosedError)) for other in others)
    assert queued(batcher) == 0
    batcher.close()


def test_however_often_a_model_fails_on_requests_it_serves_the_others(
    fallible: Fallible, loaded_bert: LoadedModel
) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(64))

    async def main() -> Outputs:
        await run(batcher, EVEN)
        for _ in range(20):
            with pytest.raises(ComputeError, match="IndexError"):
                await run(batcher, [IMPOSSIBLE])
        fallible.hold(len(IMPOSSIBLE.ids))
        with pytest.raises(ComputeError, match="IndexError"):
            await run(batcher, [IMPOSSIBLE])
        with pytest.raises(ComputeError, match="can't allocate memory"):
            await run(batcher, EVEN)
        fallible.hold(10**9)
        return await run(batcher, EVEN)

    np.testing.assert_allclose(asyncio.run(main()), expected(loaded_bert, EVEN), atol=1e-5)
    batcher.close()


def test_workers_that_fail_on_one_request_together_fail_it_once(
    fallible: Fallible, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers, askers = threading.Barrier(2), threading.Barrier(2)

    class Slow(Future[Any]):
        """A future that, asked whether it is done, gives another thread the time to ask as well."""

        def done(self) -> bool:
            answer = super().done()
            with contextlib.suppress(threading.BrokenBarrierError):
                askers.wait(0.5)
            return answer

    def fail_together(_: Sequence[Row]) -> None:
        workers.wait(30)
        raise ValueError("no such number")

    monkeypatch.setattr(jobs, "Future", Slow)
    fallible.trouble = fail_together
    batcher = Batcher(fallible, budgets=Budgets.fixed(20), staffing=Staffing(2, 1))
    with pytest.raises(ComputeError, match="no such number"):
        asyncio.run(run(batcher, EVEN[:4]))
    batcher.close()
    assert "a worker of the model ended" not in caplog.text


def test_what_waits_fails_at_once_where_a_model_is_closed_unfinished(gated: GatedEngine) -> None:
    batcher = Batcher(gated, budgets=Budgets.fixed(FULL))

    async def story() -> None:
        begun = asyncio.ensure_future(batcher.run(EVEN))
        await gated.until_reached()
        waiting = asyncio.ensure_future(batcher.run(EVEN))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(lambda: batcher.close(finish=False)))
        for each in (begun, waiting):
            with pytest.raises(ClosedError):
                await asyncio.wait_for(each, 120)
        gated.open()
        await closing

    asyncio.run(story())
    assert len(gated.batches) == 1


def test_rows_that_run_apart_find_out_that_an_engine_is_broken(
    fallible: Fallible, loaded_bert: LoadedModel
) -> None:
    batcher = Batcher(fallible, budgets=Budgets.fixed(FULL))
    np.testing.assert_allclose(batcher.run_apart(rows(1)), expected(loaded_bert, rows(1)), atol=1e-5)
    with pytest.raises(ComputeError, match="IndexError"):
        batcher.run_apart([IMPOSSIBLE])
    asyncio.run(run(batcher, EVEN))
    with pytest.raises(ComputeError, match="IndexError"):
        batcher.run_apart([IMPOSSIBLE])
    asyncio.run(run(batcher, EVEN))
    fallible.fail(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(ClosedError, match="fails on everything"):
        batcher.run_apart(rows(1))
    with pytest.raises(ClosedError, match="fails on everything"):
        asyncio.run(run(batcher, EVEN))
    batcher.close()
