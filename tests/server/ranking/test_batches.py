"""Which rows run together: pure decisions about lengths."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_server.engine.batches import SEPARATE_BATCH_COST, Waiting, split, take
from rerank_server.engine.threads import usable_cores

LENGTHS = st.lists(st.integers(1, 600), max_size=60)
QUEUES = st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=12), min_size=1, max_size=8)


@given(LENGTHS, st.integers(1, 2000))
def test_every_row_is_in_exactly_one_group_and_every_group_within_the_budget(
    lengths: list[int], max_tokens: int
) -> None:
    groups = split(lengths, max_tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = lengths[group[0]]
        assert longest == max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= max_tokens
        assert sum(longest - lengths[index] for index in group) <= SEPARATE_BATCH_COST


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "groups"),
    [
        pytest.param([], 100, [], id="nothing"),
        pytest.param([30, 30, 30], 100, [[0, 1, 2]], id="equal rows fit together"),
        pytest.param([30, 40, 20], 100, [[1, 0], [2]], id="padding counts against the budget"),
        pytest.param([500], 100, [[0]], id="a lone oversized row still gets a group"),
        pytest.param([10, 500, 10], 5000, [[1], [0, 2]], id="short rows are not padded to a long one"),
        pytest.param([7, 9, 8], 5000, [[1, 2, 0]], id="a little padding is cheaper than another pass"),
    ],
)
def test_rows_are_grouped_by_length(lengths: list[int], max_tokens: int, groups: list[list[int]]) -> None:
    assert split(lengths, max_tokens) == groups


def waiting(*requests: list[int]) -> list[Waiting]:
    """Queue requests with all of their rows, in order of arrival."""
    return [Waiting(lengths, 0, sum(lengths)) for lengths in requests]


@pytest.mark.parametrize(
    ("queue", "budget", "taken"),
    [
        pytest.param([], 100, [], id="nothing waits"),
        pytest.param([[10] * 3], 100, [3], id="a small request is taken whole"),
        pytest.param([[10] * 30], 100, [10], id="a large request fills the budget"),
        pytest.param([[10] * 30, [10] * 2], 100, [8, 2], id="a small request passes a large one"),
        pytest.param([[10] * 30, [10] * 30], 100, [10, 0], id="the older of two large ones goes first"),
        pytest.param(
            [[10] * 31, [10] * 30], 100, [5, 5], id="half of the budget is for the one that ends first"
        ),
        pytest.param([[300], [10]], 100, [1, 0], id="a row above the budget runs alone"),
        pytest.param([[90, 5], [20]], 100, [2, 0], id="what does not fit waits, what fits goes along"),
        pytest.param([[60, 60], [60], [30]], 100, [1, 0, 1], id="rows that fit pass rows that do not"),
    ],
)
def test_half_the_budget_is_for_the_oldest_and_half_for_the_smallest(
    queue: list[list[int]], budget: int, taken: list[int]
) -> None:
    assert take(waiting(*queue), budget) == taken


@given(QUEUES, st.integers(1, 1500))
def test_a_batch_gets_on_with_the_oldest_and_keeps_within_its_budget(
    queue: list[list[int]], budget: int
) -> None:
    taken = take(waiting(*queue), budget)
    rows = [length for lengths, count in zip(queue, taken, strict=True) for length in lengths[:count]]
    assert taken[0] >= 1
    assert sum(rows) <= budget or len(rows) == 1


@given(QUEUES, st.integers(1, 300))
def test_every_queue_runs_empty(queue: list[list[int]], budget: int) -> None:
    started = [0] * len(queue)
    for _ in range(sum(map(len, queue))):
        left = [place for place, lengths in enumerate(queue) if started[place] < len(lengths)]
        view = [Waiting(queue[place], started[place], sum(queue[place][started[place] :])) for place in left]
        for place, count in zip(left, take(view, budget), strict=True):
            started[place] += count
    assert started == [len(lengths) for lengths in queue]


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        pytest.param("100000 100000\n", 1, id="a limit of one core"),
        pytest.param("50000 100000\n", 1, id="half a core is still one thread"),
        pytest.param("max 100000\n", None, id="no limit"),
        pytest.param("99900000 100000\n", None, id="a limit above what there is"),
        pytest.param("nonsense", None, id="a file of another form"),
    ],
)
def test_a_containers_cpu_limit_bounds_the_threads(text: str, cores: int | None, tmp_path: Path) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(text)
    assert usable_cores(cpu_max) == (cores or usable_cores(tmp_path / "absent"))
