"""Every engine gives the same scores, whatever else is in the batch: packed = padded = one row at a time."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rerank_server.engine.interface import Outputs, Row
from tests.server.engines.cases import POSITIONS, TOLERANCE, difference, make_rows, one_by_one
from tests.server.engines.conftest import Opened

LENGTHS = st.lists(st.integers(1, POSITIONS), min_size=2, max_size=7)
THREADS = 4
few = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


@few
@given(lengths=LENGTHS, seed=st.integers(0, 1000), shared=st.sampled_from([0, 0, 7, 20]), data=st.data())
def test_any_rows_together_or_split_score_as_each_by_itself(
    opened: Opened, lengths: list[int], seed: int, shared: int, data: st.DataObject
) -> None:
    rows = make_rows(opened.case, lengths, seed, shared=shared)
    expected = one_by_one(opened.reference, rows)
    order = data.draw(st.permutations(range(len(rows))))
    middle = data.draw(st.integers(1, len(rows) - 1))
    for name, engine in opened.engines.items():
        assert difference(engine.run(rows), expected) <= TOLERANCE, name
        parts = [rows[place] for place in order[:middle]], [rows[place] for place in order[middle:]]
        mixed = [output for part in parts for output in engine.run(part)]
        assert difference(mixed, [expected[place] for place in order]) <= TOLERANCE, f"{name}, mixed"


def test_scores_differ_or_their_equality_would_prove_nothing(opened: Opened) -> None:
    rows = make_rows(opened.case, [30, 31, 32, 33], seed=1)
    outputs = [output.reshape(-1)[:8] for output in opened.reference.run(rows)]
    assert np.ptp(outputs, axis=0).max() > 1e-2


def test_several_threads_at_once_compute_what_one_computes(opened: Opened) -> None:
    batches = [make_rows(opened.case, [5 + number, 40, 2, 21], number, shared=6) for number in range(THREADS)]
    for name, engine in opened.engines.items():
        expected = [engine.run(batch) for batch in batches]
        found: list[list[Outputs]] = [[] for _ in batches]
        start = threading.Barrier(THREADS)

        def work(
            number: int,
            batch: list[Row],
            engine: object = engine,
            start: threading.Barrier = start,
            found: list[list[Outputs]] = found,
        ) -> None:
            start.wait()
            for _ in range(3):
                found[number].append(engine.run(batch))  # type: ignore[attr-defined]

        threads = [threading.Thread(target=work, args=each) for each in enumerate(batches)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for outputs, several in zip(expected, found, strict=True):
            assert len(several) == 3, f"{name}: a thread failed"
            assert max(difference(each, outputs) for each in several) <= TOLERANCE, name


@pytest.mark.parametrize("shared", [0, 20])
def test_no_row_is_padded_unless_the_engine_pads(opened: Opened, shared: int) -> None:
    rows = make_rows(opened.case, [3, 40, 17], seed=5, shared=shared)
    lengths = [len(row.ids) for row in rows]
    for name, engine in opened.engines.items():
        if name != "padded":
            # The engine `cpu` rounds the tokens of a whole batch up.
            assert 0 <= engine.positions(lengths) - sum(lengths) < (48 if name == "cpu" else 1)
