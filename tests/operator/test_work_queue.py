"""Who works on what, and when: on a clock that jumps to whatever is due."""

import asyncio
from collections import Counter

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_operator.work_queue import LONGEST_PAUSE_S, WorkQueue, pause_after
from tests.operator.virtual_time import rounds, run


def now() -> float:
    return asyncio.get_running_loop().time()


async def takes(queue: WorkQueue[str], within: float = 0.0) -> str | None:
    """Return what is to be worked on within some seconds; None where there is nothing."""
    try:
        async with asyncio.timeout(within):
            return await queue.take()
    except TimeoutError:
        return None


def test_keys_are_worked_on_in_the_order_in_which_they_became_due_and_each_once() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        for key in ("a", "b", "a", "c", "b"):
            queue.add(key)
        assert len(queue) == 3
        assert [await queue.take() for _ in range(3)] == ["a", "b", "c"]
        assert await takes(queue, 3600) is None

    run(story())


def test_a_key_is_worked_on_by_one_at_a_time_and_comes_again_where_it_was_added_meanwhile() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("a")
        assert await queue.take() == "a"
        queue.add("a")
        queue.add("b")
        assert await takes(queue) == "b", "others go on"
        assert await takes(queue, 3600) is None
        queue.done("a")
        assert await takes(queue) == "a"
        queue.done("a")
        assert await takes(queue, 3600) is None

    run(story())


def test_news_of_a_key_that_fails_brings_it_back_before_its_pause_is_over() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("a")
        await queue.take()
        queue.add("a")
        queue.failed("a")
        assert await takes(queue) == "a"
        queue.failed("a")
        assert await takes(queue) is None
        queue.add("a")
        assert await takes(queue) == "a"

    run(story())


@pytest.mark.parametrize(
    ("failures", "pause"),
    [
        pytest.param(1, 0.5, id="soon after the first"),
        pytest.param(2, 1.0, id="then twice as long"),
        pytest.param(8, 64.0, id="and so on"),
        pytest.param(9, 120.0, id="up to two minutes"),
        pytest.param(10_000, 120.0, id="for ever"),
    ],
)
def test_pauses_double_up_to_two_minutes(failures: int, pause: float) -> None:
    assert pause_after(failures) == pause


def test_pauses_grow_for_each_key_by_itself_and_success_forgets_them() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("bad")
        pauses = []
        for _ in range(4):
            before = now()
            assert await queue.take() == "bad"
            waited = now() - before
            pauses.append((waited, queue.failed("bad")))
        assert pauses == [(0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)]
        queue.add("good")
        assert await queue.take() == "good"
        assert queue.failed("good") == 0.5
        queue.add("bad")
        assert await queue.take() == "bad"
        queue.done("bad")
        queue.add("bad")
        assert await queue.take() == "bad"
        assert queue.failed("bad") == 0.5

    run(story())


def test_a_key_comes_again_when_it_asked_to() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("a")
        await queue.take()
        queue.done("a", again_after=60)
        assert await takes(queue, 59) is None
        assert await takes(queue, 2) == "a"
        assert now() == 60
        queue.done("a")
        assert await takes(queue, 3600) is None

    run(story())


@pytest.mark.parametrize(
    "appointments",
    [
        pytest.param([30, 10, 20], id="the earliest in between"),
        pytest.param([10, 20, 30], id="the earliest first"),
        pytest.param([30, 20, 10], id="the earliest last"),
        pytest.param([10, 10], id="twice the same"),
    ],
)
def test_of_several_appointments_the_earliest_is_kept_and_only_that(appointments: list[int]) -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        for when in appointments:
            queue.add_at("a", when)
        assert await queue.take() == "a"
        assert now() == 10
        queue.done("a")
        assert await takes(queue, 3600) is None

    run(story())


def test_an_appointment_is_met_by_whoever_looks_at_the_key_before() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add_at("a", 10)
        queue.add("a")
        assert await takes(queue) == "a"
        queue.done("a", again_after=20)
        assert await takes(queue, 15) is None
        assert await takes(queue, 15) == "a"
        assert now() == 20

    run(story())


def test_an_appointment_with_a_key_that_is_worked_on_waits_until_that_is_done() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add("a")
        await queue.take()
        queue.add_at("a", 10)
        assert await takes(queue, 15) is None
        queue.done("a")
        assert await takes(queue) == "a"

    run(story())


def test_an_appointment_made_while_everybody_waits_is_kept() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        queue.add_at("later", 1000)
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(1)
        queue.add_at("sooner", 5)
        assert await waiting == "sooner"
        assert now() == 5

    run(story())


def test_a_worker_that_stops_waiting_takes_nothing_with_it() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        leaving, staying = asyncio.create_task(queue.take()), asyncio.create_task(queue.take())
        await asyncio.sleep(1)
        queue.add("a")
        leaving.cancel()
        assert await staying == "a"

    run(story())


def test_waiting_workers_rest() -> None:
    """A worker wakes for what is due, for each addition, and for nothing else."""

    async def story() -> None:
        queue = WorkQueue[str]()
        workers = [asyncio.create_task(queue.take()) for _ in range(16)]
        queue.add_at("later", 3600)
        await asyncio.sleep(3599)
        idle = rounds()
        assert idle < 20
        done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        assert [worker.result() for worker in done] == ["later"]
        assert now() == 3600
        queue.add("later")
        await asyncio.sleep(3600)
        assert rounds() - idle < 40, "a key that waits for its own worker keeps nobody awake"
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(story())


def test_appointments_that_are_not_needed_any_more_wake_nobody_for_long() -> None:
    async def story() -> None:
        queue = WorkQueue[str]()
        for _ in range(100):
            queue.add("a")
            await queue.take()
            queue.done("a", again_after=60)
        before = rounds()
        assert await takes(queue, 3600) == "a"
        queue.done("a")
        assert await takes(queue, 3600) is None
        assert rounds() - before < 20

    run(story())


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.floats(0, 2),
        st.sampled_from(["done", "again", "failed"]),
        st.floats(0, 3),
    ),
    min_size=1,
    max_size=20,
)


@hypothesis.settings(deadline=None)
@given(ACTIONS, st.integers(1, 4))
def test_whatever_happens_no_key_has_two_workers_and_no_addition_is_lost(
    actions: list[tuple[str, float, str, float]], count: int
) -> None:
    """After each change of a key comes a look at it."""

    async def story() -> None:
        queue = WorkQueue[str]()
        busy: Counter[str] = Counter()
        changed: dict[str, float] = {}
        looked_at: dict[str, float] = {}
        endings = iter(actions)

        async def worker() -> None:
            while True:
                key = await queue.take()
                busy[key] += 1
                assert busy[key] == 1
                looked_at[key] = now()
                _, _, ending, took = next(endings, ("", 0.0, "done", 0.1))
                await asyncio.sleep(took)
                busy[key] -= 1
                if ending == "failed":
                    queue.failed(key)
                else:
                    queue.done(key, 1.0 if ending == "again" else None)

        workers = [asyncio.create_task(worker()) for _ in range(count)]
        for key, pause, _, _ in actions:
            await asyncio.sleep(pause)
            changed[key] = now()
            queue.add(key)
        await asyncio.sleep(LONGEST_PAUSE_S * 2)
        assert not [worker for worker in workers if worker.done()]
        assert len(queue) == 0
        assert all(looked_at[key] >= when for key, when in changed.items())
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    run(story())
