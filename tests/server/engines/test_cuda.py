"""The engines on a GPU, where there is one."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rerank_server.batching import Batcher
from rerank_server.engine.batches import Budgets
from rerank_server.engine.heads import OwnHead, head_for, keep_head_in_float32
from rerank_server.engine.interface import Row
from rerank_server.engine.packable import shape_of
from rerank_server.engine.packed import PackedEngine
from rerank_server.engine.padded import PaddedEngine
from rerank_server.engine.readout import Classifier, NextToken
from rerank_server.engine.staging import Staging
from rerank_server.workers import Staffing
from tests.server.engines.cases import CASES, Case, difference, make_rows, one_by_one, save

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no CUDA device: the GPU path is not run here"
)
PACKED_CASES = [
    case for case in CASES if "packed" in case.engines and isinstance(case.readout, Classifier | NextToken)
]


def on_gpu(case: Case, folder: Path, dtype: torch.dtype) -> tuple[PackedEngine, PaddedEngine]:
    """Load the same model twice: for the packed engine, or the causal one, and for the padded one."""
    import transformers

    models = []
    for _ in range(2):
        model = (
            getattr(transformers, case.architecture).from_pretrained(folder, dtype=dtype).to("cuda:0").eval()
        )
        if isinstance(head_for(model, case.readout), OwnHead):
            keep_head_in_float32(model)
        models.append(model)
    one, other = models
    packed = PackedEngine(
        one,
        head_for(one, case.readout),
        shape_of(one),
        max_tokens=16_384,
        share="causal" in case.engines,
    )
    packed.install()
    return packed, PaddedEngine(other, head_for(other, case.readout), pad_id=case.pad_id, max_tokens=16_384)


@pytest.mark.parametrize("case", PACKED_CASES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)], ids=str)
def test_packed_is_padded(case: Case, dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    if dtype == torch.bfloat16:
        # As large as trained weights are, so that what is compared is not the rounding.
        case = replace(case, config={"initializer_range": 0.05})
    packed, padded = on_gpu(case, save(case, tmp_path), dtype)
    rows = make_rows(case, [3, 60, 17, 41, 1, 33], seed=1, shared=9)
    assert difference(packed.run(rows), one_by_one(padded, rows)) <= tolerance


def test_nothing_waits_for_the_gpu_but_the_scores(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "bert")
    packed, _ = on_gpu(case, save(case, tmp_path), torch.bfloat16)
    rows = make_rows(case, [40, 20, 30], seed=1)
    packed.run(rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        packed.run(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_that_runs_out_for_real_is_survived(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "bert")
    packed, padded = on_gpu(case, save(case, tmp_path), torch.bfloat16)
    rows = [Row([5 + place % 200] * 90, [0] * 90) for place in range(1500)]
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (total - free + (64 << 20)) / total))
    batcher = Batcher(packed, budgets=Budgets.fixed(16_384), staffing=Staffing(2))
    try:
        outputs = asyncio.run(batcher.run(rows)).outputs
    finally:
        batcher.close()
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert difference(outputs[:3], one_by_one(padded, rows[:3])) <= 0.5


def test_buffers_are_page_locked_and_may_be_filled_again_at_once() -> None:
    import numpy as np

    staging = Staging(torch.device("cuda:0"))
    sent = [staging.send([np.full(100_000, number, dtype=np.int32)])[0] for number in range(6)]
    assert [int(each[-1]) for each in sent] == list(range(6))
