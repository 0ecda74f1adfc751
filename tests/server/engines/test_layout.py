"""How rows lie in one forward pass: pure, no model."""

import numpy as np
import pytest

from rerank_server.engine.interface import Row
from rerank_server.engine.layout import Numbering, Stretch, lay_out, passes

PLAIN = Numbering()


def test_rows_lie_one_after_another_and_each_counts_its_own_positions() -> None:
    layout = lay_out([Row([7, 8, 9], [0, 1, 1]), Row([5]), Row([3, 4])], PLAIN)
    assert layout.ids.tolist() == [7, 8, 9, 5, 3, 4]
    assert layout.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert layout.type_ids.tolist() == [0, 1, 1, 0, 0, 0]
    assert layout.stretches == (Stretch(0, 3), Stretch(3, 1), Stretch(4, 2))
    assert layout.query_edges().tolist() == layout.key_edges().tolist() == [0, 3, 4, 6]
    assert (layout.starts.tolist(), layout.lengths.tolist(), layout.last.tolist()) == (
        [0, 3, 4],
        [3, 1, 2],
        [2, 3, 5],
    )
    assert not layout.scattered


def test_roberta_counts_from_behind_the_padding_id_and_leaves_it_out() -> None:
    assert Numbering(2, 1).of([0, 9, 1, 8, 1]).tolist() == [2, 3, 1, 4, 1]


def test_a_shared_beginning_is_laid_out_once_for_each_request() -> None:
    one = [Row([1, 2, 3, 4], shared=3), Row([1, 2, 3, 5, 6], shared=3)]
    two = [Row([9, 2, 7], shared=2), Row([9, 2, 8], shared=2)]
    alone = Row([4, 4], shared=1)
    layout = lay_out([one[0], two[0], alone, two[1], one[1]], PLAIN, share=True)

    assert layout.ids.tolist() == [1, 2, 3, 4, 5, 6, 9, 2, 7, 8, 4, 4]
    assert layout.positions.tolist() == [0, 1, 2, 3, 3, 4, 0, 1, 2, 2, 0, 1]
    assert layout.stretches == (
        Stretch(0, 3),
        *(Stretch(3, 1, 0, 3), Stretch(4, 2, 0, 3)),
        Stretch(6, 2),
        *(Stretch(8, 1, 6, 2), Stretch(9, 1, 6, 2)),
        Stretch(10, 2),
    )
    assert layout.last.tolist() == [3, 8, 11, 9, 5]
    assert layout.key_edges().tolist() == [0, 3, 7, 12, 14, 17, 20, 22]
    assert layout.key_places()[3:7].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "tokens"),
    [
        pytest.param([Row([1, 2, 3], shared=2), Row([1, 9, 3], shared=2)], 6, id="the ids differ"),
        pytest.param(
            [Row([1, 2, 3], [0, 0, 0], 2), Row([1, 2, 3], [0, 1, 1], 2)], 6, id="the segments differ"
        ),
        pytest.param(
            [Row([1, 2], shared=2), Row([1, 2], shared=2)], 3, id="a row's last token stays its own"
        ),
        pytest.param([Row([1], shared=1), Row([1], shared=1)], 2, id="a row of one token shares nothing"),
    ],
)
def test_only_what_is_the_same_is_shared(rows: list[Row], tokens: int) -> None:
    assert len(lay_out(rows, PLAIN, share=True).ids) == tokens


def test_a_row_that_ends_in_padding_is_read_before_it_even_in_the_shared_part() -> None:
    rows = [Row([5, 6, 0, 0], shared=3), Row([5, 6, 0, 8], shared=3), Row([0, 0])]
    layout = lay_out(rows, PLAIN, share=True, skipped=0)
    assert layout.ids.tolist() == [5, 6, 0, 0, 8, 0, 0]
    assert layout.last.tolist() == [1, 4, 5]


def test_tokens_that_none_attends_to_are_no_keys() -> None:
    layout = lay_out([Row([1, 2, 3], unattended=2), Row([4, 5])], PLAIN)
    assert layout.scattered
    assert layout.key_edges().tolist() == [0, 1, 3]
    assert layout.key_places().tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        pytest.param([3, 3, 3], 6, [2, 1], id="as many as fit, in their order"),
        pytest.param([9, 1], 6, [1, 1], id="a row above the budget runs alone"),
        pytest.param([1, 9, 1], 6, [1, 1, 1], id="also between others"),
        pytest.param([2], 6, [1], id="one row"),
    ],
)
def test_passes_stay_within_the_budget(lengths: list[int], budget: int, expected: list[int]) -> None:
    rows = [Row([1] * length) for length in lengths]
    found = list(passes(rows, budget))
    assert [len(each) for each in found] == expected
    assert [place for each in found for place in each] == list(range(len(rows)))


def test_what_rows_share_counts_once_in_a_pass() -> None:
    rows = [Row([1, 2, 3, 4, place], shared=4) for place in range(6)]
    assert [len(each) for each in passes(rows, 7, share=True)] == [3, 3]
    assert [len(each) for each in passes(rows, 7)] == [1] * 6


def test_arrays_are_of_the_type_that_kernels_take() -> None:
    layout = lay_out([Row([1, 2], shared=1), Row([1, 3], shared=1)], PLAIN, share=True)
    arrays = (layout.ids, layout.positions, layout.type_ids, layout.starts, layout.lengths, layout.last)
    edges = (layout.query_edges(), layout.key_edges(), layout.key_places())
    assert {each.dtype for each in (*arrays, *edges)} == {np.dtype("int32")}
