"""What is said of bf16 on a CPU that multiplies it slowly."""

import logging

import pytest
import torch

from rerank_server.engine.cpu import precision
from rerank_server.load import ScoringOptions, load
from tests.server.ranking.conftest import SaveModel

SLOW = (
    "bfloat16 products run at 0.55 of float32's speed on this CPU: set scoring.dtype to float32, "
    "unless memory is short"
)


@pytest.mark.parametrize(("speed", "remark"), [(0.549, SLOW), (0.9, None), (1.0, None), (7.5, None)])
def test_a_type_of_numbers_that_is_slow_is_remarked_upon(speed: float, remark: str | None) -> None:
    assert precision.remark(speed) == remark


def test_speed_is_that_of_bf16_as_a_multiple_of_fp32_s_and_costs_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The products are real ones; how long they take is given."""
    seconds = {torch.float32: 2.0, torch.bfloat16: 4.0}
    monkeypatch.setattr(precision, "_seconds", lambda run: seconds[run().dtype])
    threads = torch.get_num_threads()
    assert precision.bfloat16_speed() == 0.5
    assert torch.get_num_threads() == threads


def test_the_products_take_time() -> None:
    assert precision.bfloat16_speed() > 0


@pytest.mark.parametrize(
    ("dtype", "speed", "said"),
    [("bfloat16", 0.55, True), ("bfloat16", 2.0, False), ("auto", 0.55, False), ("float32", 0.55, False)],
)
def test_who_asks_for_bf16_is_told_where_it_is_slow(
    dtype: str,
    speed: float,
    said: bool,
    save: SaveModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The speed is given, since CPUs differ in it."""
    monkeypatch.setattr(precision, "bfloat16_speed", lambda: speed)
    with caplog.at_level(logging.WARNING, logger="rerank_server"):
        loaded = load(save("bert"), ScoringOptions(dtype=dtype))
    assert loaded.engine_reason.endswith(f"; {SLOW}") is said
    assert (SLOW in caplog.messages) is said
