"""What a batch takes: bounded passes, smaller ones where memory does not suffice, one copy each way."""

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from rerank_server.batching import Batcher
from rerank_server.engine import batches
from rerank_server.engine.batches import Budgets
from rerank_server.engine.failures import out_of_memory
from rerank_server.engine.heads import head_for
from rerank_server.engine.interface import Outputs, Row
from rerank_server.engine.packable import shape_of
from rerank_server.engine.packed import PackedEngine
from rerank_server.engine.padded import PaddedEngine
from rerank_server.engine.readout import Classifier
from rerank_server.engine.staging import Staging, _Buffer
from tests.server.engines.cases import CASES, TOLERANCE, difference, make_rows
from tests.server.ranking.conftest import POSITIONS, RANDOMNESS, SIZES

BERT = next(case for case in CASES if case.name == "bert")
ROWS = make_rows(BERT, [40, 30, 20, 40, 10, 30], seed=2)


def refuse_as_on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def refuse_as_on_a_cpu() -> None:
    """Have torch's allocator refuse, which raises RuntimeError."""
    torch.empty(1 << 58)


REFUSALS = [
    pytest.param(refuse_as_on_a_gpu, id="as torch refuses on a GPU"),
    pytest.param(refuse_as_on_a_cpu, id="as torch refuses on a CPU"),
]


class Meter:
    """A real model that has memory for so many tokens, as far as the engine can tell."""

    def __init__(self) -> None:
        self.fits = 10**9
        self.refuse: Callable[[], None] = refuse_as_on_a_gpu
        self.passes: list[int] = []
        self.computed: weakref.ref[torch.Tensor] | None = None
        """What a pass had computed when it was refused."""
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
            computed = torch.ones(tokens)
            self.computed = weakref.ref(computed)
            self.refuse()
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


@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_passes_are_half_as_large_where_memory_does_not_suffice_until_many_have_fitted(
    kind: str, refuse: Callable[[], None], meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "GROWS_AFTER", 4)
    meter.refuse = refuse
    batcher = Batcher(
        meter.engine(160) if kind == "packed" else meter.padded(160), budgets=Budgets.fixed(160)
    )
    rows = make_rows(BERT, [40, 40, 40, 40], seed=2)

    def run() -> tuple[Outputs, list[int]]:
        meter.passes = []
        return asyncio.run(batcher.run(rows)).outputs, meter.passes

    expected, passes = run()
    assert passes == [160]
    meter.fits = 90
    found, passes = run()
    assert difference(found, expected) <= TOLERANCE
    assert passes == [80, 80]
    meter.fits = 10**9
    assert [run()[1] for _ in range(3)] == [[80, 80], [80, 80], [160]]
    batcher.close()


@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_a_lack_of_memory_that_an_engine_raises_holds_on_to_none_of_it(
    kind: str, refuse: Callable[[], None], meter: Meter
) -> None:
    engine = meter.engine(160) if kind == "packed" else meter.padded(160)
    meter.fits, meter.refuse = 90, refuse
    with pytest.raises(RuntimeError) as refused:
        engine.run(ROWS)
    assert out_of_memory(refused.value)
    assert meter.computed is not None
    assert meter.computed() is None
    assert meter.passes == []


def test_another_error_of_a_pass_is_not_taken_for_a_lack_of_memory(meter: Meter) -> None:
    with pytest.raises(IndexError):
        meter.engine(170).run([Row([10**6]), Row([5])])


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError("[…] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, lacks: bool) -> None:
    assert out_of_memory(error) is lacks


def test_torchs_own_refusal_on_a_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as refused:
        refuse_as_on_a_cpu()
    assert out_of_memory(refused.value)


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
