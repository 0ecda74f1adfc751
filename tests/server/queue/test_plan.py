"""Which rows run next, and how cores are used: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.engine.batches import GROWS_AFTER, Aim, Batch, Budgets, Fit, Waiting, plan
from rerank_server.workers import Staffing, fastest, staffings

BUDGETS = Budgets(full=1000, mixed=250, least=60)
ROWS = st.lists(st.integers(1, 600), min_size=1, max_size=40).map(
    lambda lengths: sorted(lengths, reverse=True)
)
"""Longest first, as a request's rows are run."""
QUEUES = st.lists(ROWS, min_size=1, max_size=8)


def waiting(*requests: list[int]) -> list[Waiting]:
    return [Waiting(lengths, 0, sum(lengths)) for lengths in requests]


@pytest.mark.parametrize(
    ("queue", "how", "counts"),
    [
        pytest.param([], {}, [], id="nothing waits"),
        pytest.param([[100] * 30], {}, [10], id="a full batch of a large request"),
        pytest.param(
            [[100] * 4], {"workers": 2, "idle": 2}, [2], id="a lone request is split over idle workers"
        ),
        pytest.param([[100] * 4], {"workers": 2, "idle": 1}, [4], id="the other worker is busy"),
        pytest.param([[20] * 4], {"workers": 4, "idle": 4}, [3], id="nothing is split into crumbs"),
        pytest.param(
            [[100] * 30, [100] * 3],
            {"credit": 1000},
            [0, 3],
            id="a small request that comes upon a large one has a batch of its own",
        ),
        pytest.param(
            [[100] * 30, [100] * 3],
            {"credit": 1000, "workers": 2},
            [0, 1],
            id="which leaves some to the other worker",
        ),
        pytest.param([[100] * 30, [100] * 3], {}, [7, 3], id="but not where it had its half"),
        pytest.param([[100] * 30], {"hurried": True}, [2], id="batches are small while small requests come"),
        pytest.param([[100] * 9], {"hurried": True}, [9], id="unless nothing large waits"),
        pytest.param([[100] * 3, [100]], {"credit": 1000}, [3, 1], id="a small oldest one goes first"),
    ],
)
def test_the_next_batch(queue: list[list[int]], how: dict[str, int], counts: list[int]) -> None:
    assert plan(waiting(*queue), BUDGETS, **how).counts == counts  # type: ignore[arg-type]


@given(QUEUES, st.integers(1, 4), st.booleans(), st.integers(0, 1000))
def test_every_queue_runs_empty_and_the_oldest_gets_its_half(
    queue: list[list[int]], workers: int, hurried: bool, credit: int
) -> None:
    started = [0] * len(queue)
    oldest = behind = 0
    for _ in range(sum(map(len, queue))):
        left = [place for place, lengths in enumerate(queue) if started[place] < len(lengths)]
        view = [Waiting(queue[place], started[place], sum(queue[place][started[place] :])) for place in left]
        batch: Batch = plan(view, BUDGETS, workers=workers, idle=1, hurried=hurried, credit=credit)
        credit = batch.credit
        run = [request.next(count) for request, count in zip(view, batch.counts, strict=True)]
        assert 0 <= credit <= BUDGETS.full
        assert not view or sum(batch.counts) >= 1
        assert sum(run) <= BUDGETS.full or sum(batch.counts) == 1
        if left and left[0] == 0 and view[0].tokens > BUDGETS.full:
            oldest, behind = oldest + run[0], behind + sum(run) - run[0]
            assert behind <= oldest + 2 * BUDGETS.full + 600, "beyond what was made good"
        for place, count in zip(left, batch.counts, strict=True):
            started[place] += count
    assert started == [len(lengths) for lengths in queue]


HALF = Budgets(500, 125, 30)


@pytest.mark.parametrize(
    ("halvings", "fit", "tried", "budgets"),
    [
        pytest.param(0, Fit.WHOLE, BUDGETS, BUDGETS, id="it fitted"),
        pytest.param(0, Fit.IN_PARTS, BUDGETS, HALF, id="it fitted in parts only"),
        pytest.param(1, Fit.IN_PARTS, BUDGETS, HALF, id="another worker's batch has told it already"),
        pytest.param(1, Fit.IN_PARTS, HALF, Budgets(250, 62, 15), id="nor did half of it fit"),
        pytest.param(0, Fit.UNKNOWN, BUDGETS, BUDGETS, id="a row by itself did not fit"),
    ],
)
def test_what_a_batch_tells_of_the_next(halvings: int, fit: Fit, tried: Budgets, budgets: Budgets) -> None:
    assert Aim(BUDGETS, halvings).after(fit, tried).budgets == budgets


def test_the_aim_grows_back_after_batches_that_fitted_and_no_further() -> None:
    aim = Aim(BUDGETS, 2)
    for _ in range(GROWS_AFTER - 1):
        aim = aim.after(Fit.WHOLE, aim.budgets)
    assert aim.budgets == BUDGETS.halved(2)
    aim = aim.after(Fit.UNKNOWN, aim.budgets).after(Fit.WHOLE, BUDGETS)
    assert aim.budgets == BUDGETS.halved(2)
    aim = aim.after(Fit.WHOLE, aim.budgets)
    assert aim.budgets == HALF
    for _ in range(2 * GROWS_AFTER):
        aim = aim.after(Fit.WHOLE, aim.budgets)
    assert aim == Aim(BUDGETS)


def test_a_batch_aims_at_a_token_at_least_and_grows_from_there() -> None:
    aim = Aim(Budgets.fixed(4))
    for _ in range(9):
        aim = aim.after(Fit.IN_PARTS, aim.budgets)
    assert aim == Aim(Budgets.fixed(4), 2)
    assert aim.budgets == Budgets.fixed(1)


@pytest.mark.parametrize(
    ("cores", "workers", "ways"),
    [
        pytest.param(1, None, [(1, 1)], id="one core"),
        pytest.param(2, None, [(2, 1), (1, 2)], id="two"),
        pytest.param(16, None, [(16, 1), (4, 4), (1, 16)], id="many"),
        pytest.param(12, 5, [(5, 2)], id="somebody's choice"),
        pytest.param(2, 8, [(8, 1)], id="more workers than cores"),
    ],
)
def test_the_ways_to_use_cores(cores: int, workers: int | None, ways: list[tuple[int, int]]) -> None:
    assert staffings(cores, workers) == [Staffing(*way) for way in ways]


def test_the_fastest_way_is_taken_and_more_workers_where_it_hardly_matters() -> None:
    many, few = Staffing(8, 1), Staffing(1, 8)
    assert fastest([(many, 100.0), (few, 150.0)]) == few
    assert fastest([(many, 150.0), (few, 100.0)]) == many
    assert fastest([(few, 100.0), (many, 97.0)]) == many
    assert (str(many), str(few), str(Staffing(2))) == (
        "8 workers of 1 thread",
        "1 worker of 8 threads",
        "2 workers",
    )
