"""The engine `cpu`: equal to transformers' own classes, whatever shares its batch, without transformers."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rerank_server.engine.cpu import operators
from rerank_server.engine.cpu.attention import attend, extent
from rerank_server.engine.interface import Row
from rerank_server.engine.readout import Classifier, NextToken, PooledVector, Readout, TokenVectors
from rerank_server.errors import LoadError
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.engines import open_engine
from rerank_server.families.interface import Computed, Cut, Dtype, Plan
from rerank_server.load import ScoringOptions, load
from tests.server.ranking.conftest import POSITIONS, SaveModel

pytestmark = pytest.mark.skipif(
    operators.objection(torch.float32) is not None,
    reason=f"the engine cpu does not run here: {operators.objection(torch.float32)}",
)

KINDS = ["bert", "roberta", "xlm-roberta"]
PAD = 1
"""The padding id of the two RoBERTas."""
SMALLEST_VOCABULARY = 100
READOUTS: dict[str, Readout] = {
    "classifier": Classifier(),
    "cls": PooledVector(("cls",)),
    "mean": PooledVector(("mean",)),
    "max and last token": PooledVector(("max", "lasttoken")),
    "every token": TokenVectors(),
    "mean, then a step": PooledVector(("mean",), (torch.tanh,)),
}
LENGTHS = st.lists(st.integers(1, POSITIONS), min_size=1, max_size=6)


def opened(
    folder: Path, engine: str, readout: Readout, dtype: Dtype = "float32", batch_tokens: int = 1024
) -> Computed:
    plan = Plan("cpu", dtype, None, batch_tokens, engine=engine)
    return open_engine(read_checkpoint(folder), plan, readout)


def rows(lengths: list[int], seed: int = 0, *, typed: bool = False) -> list[Row]:
    """Make rows of these lengths; one id in five is 0 or 1, of which one is the model's padding id."""
    dice = np.random.default_rng(seed)
    return [
        Row(
            np.where(
                dice.random(length) < 0.2,
                dice.integers(0, 2, length),
                dice.integers(5, SMALLEST_VOCABULARY, length),
            ).tolist(),
            ([0] * (length // 2) + [1] * (length - length // 2)) if typed else None,
        )
        for length in lengths
    ]


def largest_difference(ours: list[Any], theirs: list[Any]) -> float:
    assert [each.shape for each in ours] == [each.shape for each in theirs]
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_the_padded_model_on_rows_of_any_length(
    kind: str, readout: Readout, save: SaveModel
) -> None:
    folder = save(kind)
    ours, padded = opened(folder, "cpu", readout), opened(folder, "padded", readout)
    assert ours.facts == padded.facts

    @settings(max_examples=8, deadline=None)
    @given(lengths=LENGTHS, seed=st.integers(0, 99))
    def equal(lengths: list[int], seed: int) -> None:
        batch = rows(lengths, seed, typed=ours.facts.takes_type_ids)
        assert largest_difference(ours.engine.run(batch), padded.engine.run(batch)) <= 1e-5

    equal()


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_a_document_that_spells_the_padding_token_scores_as_in_the_padded_model(
    kind: str, save: SaveModel
) -> None:
    folder = save(kind)
    ours, padded = (load(folder, ScoringOptions(), threads=1, engine=name) for name in ("cpu", "padded"))
    texts = ["a star <pad> and a planet", "<pad><pad>", "mars <pad>"]
    batch = ours.ranker.encode_documents(ours.ranker.encode_query("red <pad> planet"), texts, Cut("document"))
    assert all(list(row.ids).count(PAD) >= 2 for row in batch)
    assert largest_difference(ours.engine.run(batch), padded.engine.run(batch)) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_every_way_of_attention_gives_the_same(dtype: torch.dtype) -> None:
    lengths = [1, 47, 48, 149, 150, 300]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    dice = torch.Generator().manual_seed(1)
    queries, keys, values = torch.randn(3, 4, sum(lengths), 64, generator=dice).to(dtype)
    result = attend(queries, keys, values, starts, lengths).float()
    for start, length in zip(starts, lengths, strict=True):
        row = slice(start, start + length)
        parts = (each[None, :, row].float() for each in (queries, keys, values))
        expected = torch.nn.functional.scaled_dot_product_attention(*parts)[0].transpose(0, 1).flatten(1)
        assert (result[row] - expected).abs().max() <= (1e-5 if dtype is torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("length", [20, 60, 150, 310])
def test_a_row_attends_to_nothing_of_what_lies_beside_it(length: int, dtype: torch.dtype) -> None:
    beside = 40
    dice = torch.Generator().manual_seed(1)
    quiet, loud = torch.randn(2, 3, 4, length + 2 * beside, 32, generator=dice).to(dtype)
    loud[:] = float("nan")
    loud[:, :, beside : beside + length] = quiet[:, :, beside : beside + length]
    lengths, attended = [beside, length, 10], [beside, length - 3, 10]
    starts = [0, beside, beside + length]
    one, other = (attend(*each, starts, lengths, attended=attended) for each in (quiet, loud))
    row = slice(beside, beside + length)
    assert torch.equal(one[row], other[row])
    assert not other[beside + length + 10 :].any(), "tokens of no row attend to nothing"
    parts = [each[None, :, row].float() for each in quiet]
    parts[1:] = (each[:, :, : length - 3] for each in parts[1:])
    expected = torch.nn.functional.scaled_dot_product_attention(*parts)[0].transpose(0, 1).flatten(1)
    assert (one[row].float() - expected).abs().max() <= (1e-5 if dtype is torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("readout", [READOUTS["classifier"], READOUTS["mean"]], ids=["classifier", "mean"])
def test_a_damaged_word_spoils_the_rows_that_hold_it_and_no_other(
    dtype: Dtype, readout: Readout, save: SaveModel
) -> None:
    folder = save("bert")
    damaged = load_file(folder / "model.safetensors")
    words = next(name for name in damaged if name.endswith("word_embeddings.weight"))
    damaged[words][[0, 7]] = float("nan")  # 0 stands for the tokens of no row
    save_file(damaged, folder / "model.safetensors")
    engine = opened(folder, "cpu", readout, dtype).engine
    whole = [Row([9, 8, 20, 10] * (length // 4)) for length in (20, 60, POSITIONS // 4 * 4)]
    alone = [engine.run([row])[0] for row in whole]
    beside = engine.run([row for each in whole for row in (each, Row([9, 7, 9]))])
    assert all(np.isfinite(each).all() for each in alone)
    assert largest_difference(beside[::2], alone) <= (1e-6 if dtype == "float32" else 2e-2)
    assert all(np.isnan(each).any() for each in beside[1::2])


def test_rows_of_any_length_come_in_few_shapes(bert: Path) -> None:
    engine = opened(bert, "cpu", Classifier(), "bfloat16").engine
    computed = {engine.positions([300, 200, length]) for length in range(1, 400)}
    assert all(each % 16 == 0 for each in computed)
    assert len(computed) <= 400 / 32 + 2
    assert all(0 <= engine.positions([length]) - length < 48 for length in range(1, 900))
    extents = {extent(torch.bfloat16, 32, length) for length in range(48, 513)}
    assert len(extents) <= 512 / 32


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=LENGTHS, limit=st.integers(1, 200))
def test_what_shares_a_batch_changes_nothing(lengths: list[int], limit: int, bert: Path) -> None:
    alone, bounded = (
        opened(bert, "cpu", Classifier()),
        opened(bert, "cpu", Classifier(), batch_tokens=limit),
    )
    batch = rows(lengths, typed=True)
    one_by_one = [alone.engine.run([row])[0] for row in batch]
    assert largest_difference(alone.engine.run(batch), one_by_one) <= 1e-6
    assert largest_difference(bounded.engine.run(batch), one_by_one) <= 1e-6


def test_several_threads_may_run_it_at_once(bert: Path) -> None:
    engine = opened(bert, "cpu", Classifier()).engine
    batches = [rows([5, 90, 33, 7], seed, typed=True) for seed in range(24)]
    expected = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for ours, theirs in zip(threads.map(engine.run, batches), expected, strict=True):
            assert largest_difference(ours, theirs) <= 1e-6


def test_weights_may_have_the_old_names_and_half_precision(save: SaveModel) -> None:
    folder = save("bert")
    batch = rows([9, 40], typed=True)
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    expected = opened(folder, "padded", Classifier()).engine.run(batch)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in weights.items()
    }
    assert old.keys() != weights.keys()
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    assert largest_difference(opened(folder, "cpu", Classifier()).engine.run(batch), expected) <= 1e-5


@pytest.mark.parametrize(
    ("config", "readout", "why"),
    [
        pytest.param({"hidden_act": "relu"}, Classifier(), "hidden_act to relu", id="another activation"),
        pytest.param({"is_decoder": True}, PooledVector(("cls",)), "is_decoder to True", id="a decoder"),
        pytest.param({"model_type": "electra"}, Classifier(), "not electra", id="another architecture"),
        pytest.param(
            {"position_embedding_type": "relative_key"}, Classifier(), "relative_key", id="relative positions"
        ),
        pytest.param({"quantization_config": {"bits": 8}}, Classifier(), "quantized", id="quantized weights"),
        pytest.param(
            {"architectures": ["BertForMaskedLM"]}, Classifier(), "BertForMaskedLM", id="another head"
        ),
        pytest.param({"hidden_size": 64}, Classifier(), "is [32, 32] where", id="weights of another width"),
        pytest.param({"num_hidden_layers": 3}, Classifier(), "layer.2", id="a layer that is missing"),
        pytest.param({}, NextToken((1,)), "no language model's head", id="another readout"),
    ],
)
def test_what_it_cannot_compute_is_declined_with_the_reason(
    config: dict[str, Any], readout: Readout, why: str, save: SaveModel
) -> None:
    folder = save("bert")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(LoadError) as refused:
        opened(folder, "cpu", readout)
    assert why in str(refused.value)


def test_a_machine_without_the_operators_uses_another_engine(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "objection", lambda dtype: "torch 0 lacks the fused linear layer")
    computed = opened(bert, "auto", Classifier())
    assert computed.engine.name != "cpu"
    assert "torch 0 lacks the fused linear layer" in computed.reason


def test_an_operator_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.Linear, "gelu", operators.Linear.__call__)
    assert "GELU" in str(operators.objection(torch.float32))


@pytest.mark.skipif(
    operators.objection(torch.bfloat16) is not None, reason=str(operators.objection(torch.bfloat16))
)
@pytest.mark.parametrize("readout", [Classifier(), PooledVector(("mean",))], ids=["classifier", "mean"])
def test_bfloat16_stays_near_float32_whatever_the_length(readout: Readout, save: SaveModel) -> None:
    folder = save("xlm-roberta", initializer_range=0.05)
    batch = rows([3, 47, 48, 96, 12])
    exact = opened(folder, "cpu", readout).engine.run(batch)
    assert largest_difference(opened(folder, "cpu", readout, "bfloat16").engine.run(batch), exact) <= 0.05


def test_transformers_is_never_imported_for_it(minilm: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rerank_server.load import ScoringOptions, load;"
        f"model = load(Path({str(minilm)!r}), ScoringOptions(), threads=1);"
        "model.engine.run(list(model.ranker.encode_query('red planet').rows));"
        "print(model.engine.name, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "False"]
