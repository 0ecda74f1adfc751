"""What a batch takes: bounded passes, halves where memory does not suffice, one copy each way."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from rerank_server.engine.budget import TokenBudget
from rerank_server.engine.heads import head_for
from rerank_server.engine.interface import Row
from rerank_server.engine.packable import shape_of
from rerank_server.engine.packed import PackedEngine
from rerank_server.engine.padded import PaddedEngine
from rerank_server.engine.readout import Classifier
from rerank_server.engine.staging import Staging, _Buffer
from tests.server.engines.cases import CASES, TOLERANCE, difference, make_rows
from tests.server.ranking.conftest import POSITIONS, RANDOMNESS, SIZES

BERT = next(case for case in CASES if case.name == "bert")
ROWS = make_rows(BERT, [40, 30, 20, 40, 10, 30], seed=2)


class Meter:
    """A real model that has memory for so many tokens, as far as the engine can tell."""

    def __init__(self) -> None:
        self.fits = 10**9
        self.passes: list[int] = []
        torch.manual_seed(1)
        config = BertConfig(
            vocab_size=300,
            max_position_embeddings=POSITIONS,
            initializer_range=RANDOMNESS,
            num_labels=1,
            **SIZES,
        )
        self.model = BertForSequenceClassification(config).eval()
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: object, __: object, named: dict[str, Any]) -> None:
        tokens = named["input_ids"].numel()
        if tokens > self.fits:
            raise torch.OutOfMemoryError(f"{tokens} tokens are too many")
        self.passes.append(tokens)

    def padded(self, max_tokens: int) -> PaddedEngine:
        return PaddedEngine(self.model, head_for(self.model, Classifier()), pad_id=0, max_tokens=max_tokens)

    def engine(self, max_tokens: int) -> PackedEngine:
        engine = PackedEngine(
            self.model, head_for(self.model, Classifier()), shape_of(self.model), max_tokens=max_tokens
        )
        engine.install()
        return engine


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_a_pass_has_no_more_tokens_than_its_budget(meter: Meter) -> None:
    meter.engine(70).run(ROWS)
    assert meter.passes == [70, 70, 30]


def test_where_memory_does_not_suffice_rows_run_in_halves_and_later_passes_are_smaller(meter: Meter) -> None:
    engine = meter.engine(170)
    expected = engine.run(ROWS)
    assert meter.passes == [170]

    meter.fits, meter.passes = 80, []
    assert difference(engine.run(ROWS), expected) <= TOLERANCE
    assert max(meter.passes) <= 80
    assert sum(meter.passes) == 170

    meter.passes = []
    assert difference(engine.run(ROWS), expected) <= TOLERANCE
    assert max(meter.passes) <= 80
    assert sum(meter.passes) == 170


def test_the_padded_engine_runs_halves_as_well(meter: Meter) -> None:
    engine = meter.padded(400)
    rows = make_rows(BERT, [40, 39, 38, 37, 36], seed=2)
    expected = engine.run(rows)
    assert meter.passes == [5 * 40]

    meter.fits, meter.passes = 90, []
    assert difference(engine.run(rows), expected) <= TOLERANCE
    assert max(meter.passes) <= 90


def test_a_lone_row_that_does_not_fit_is_an_error_and_the_engine_goes_on(meter: Meter) -> None:
    engine = meter.engine(170)
    meter.fits = 35
    with pytest.raises(torch.OutOfMemoryError):
        engine.run(ROWS)
    assert len(engine.run(ROWS[1:3])) == 2


def test_the_budget_only_shrinks_and_never_below_one_token() -> None:
    budget = TokenBudget(16_384)
    budget.shrink(12_000)
    assert budget.tokens == 6_000
    budget.shrink(16_384)
    assert budget.tokens == 3_000
    for _ in range(20):
        budget.shrink(10)
    assert budget.tokens == 1


def test_two_threads_that_run_out_of_memory_leave_one_budget() -> None:
    budget = TokenBudget(1 << 20)
    threads = [threading.Thread(target=budget.shrink, args=(1 << 20,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.tokens == 1 << 12


def test_a_buffer_grows_is_filled_anew_and_gives_what_was_put_in() -> None:
    buffer = _Buffer(pinned=False)
    first = [np.arange(5, dtype=np.int32), np.arange(3, dtype=np.int32)]
    assert buffer.fill(first).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    place = buffer.fill([np.full(2, 7, dtype=np.int32)])
    assert place.tolist() == [7, 7]
    assert buffer.fill([np.arange(100, dtype=np.int32)]).tolist() == list(range(100))
    assert buffer.fill([np.zeros(0, dtype=np.int32)]).tolist() == []


def test_on_a_cpu_nothing_is_copied() -> None:
    array = np.arange(4, dtype=np.int32)
    [sent] = Staging(torch.device("cpu")).send([array])
    assert sent.data_ptr() == array.__array_interface__["data"][0]


def test_rows_of_any_length_leave_no_state_behind(meter: Meter) -> None:
    engine = meter.engine(64)
    before = set(vars(engine))
    engine.run([Row([5] * length) for length in (96, 1, 30)])
    assert set(vars(engine)) == before
    assert all(not isinstance(value, torch.Tensor) for value in vars(engine).values())
