"""Scores of cross-encoders are transformers' own, alone and in a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoTokenizer

from rerank_server.families.interface import Cut
from rerank_server.load import ScoringOptions, load

QUERY = "which planet is known as the red planet"
DOCUMENTS = [
    "mars",
    "venus is often called the twin of the sun because of its similar size and proximity",
    "",
    "mars , known for its reddish appearance , is often referred to as the red planet . " * 9,
    "東京 naïve München \x00 [SEP] </s> tokens",
    "saturn is famous for its rings",
]
TOLERANCE = 2e-5


def reference(folder: Path, max_length: int) -> tuple[list[Any], list[float]]:
    """Encode and score each pair by itself with nothing but transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model_class = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    pairs, scores = [], []
    for document in DOCUMENTS:
        # In lists: given one string, transformers takes an empty document for none at all.
        pair = tokenizer(
            [QUERY], [document], truncation="only_second", max_length=max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            scores.append(model(**pair).logits.item())
        pairs.append(pair)
    return pairs, scores


def test_rows_and_scores_are_those_of_transformers(architecture: str, save: Any) -> None:
    folder = save(architecture)
    model = load(folder, ScoringOptions(max_length=48), threads=1)
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, DOCUMENTS, Cut("document"))
    pairs, expected = reference(folder, 48)

    assert [list(row.ids) for row in rows] == [pair["input_ids"][0].tolist() for pair in pairs]
    for row, pair in zip(rows, pairs, strict=True):
        if row.type_ids is not None:
            assert list(row.type_ids) == pair["token_type_ids"][0].tolist()
    assert np.std(expected) > 1e-3, "the scores of this random model must differ, or they prove nothing"

    alone = np.stack([model.engine.run([row])[0] for row in rows])
    together = np.stack(model.engine.run(rows))
    assert model.ranker.scores(alone) == pytest.approx(expected, abs=TOLERANCE)
    assert model.ranker.scores(together) == pytest.approx(expected, abs=TOLERANCE)
    assert model.engine.dtype == "float32"


def test_many_rows_are_padded_in_one_group_and_keep_their_scores(architecture: str, save: Any) -> None:
    model = load(save(architecture), ScoringOptions(), threads=1, engine="padded")
    query = model.ranker.encode_query("red planet")
    documents = [("mars is a planet " * count).strip() for count in (1, 2, 3, 2, 1)]
    rows = model.ranker.encode_documents(query, documents, Cut("document"))
    lengths = [len(row.ids) for row in rows]

    assert model.engine.positions(lengths) > sum(lengths), "padding must happen, or this proves nothing"
    alone = [model.engine.run([row])[0][0] for row in rows]
    assert np.stack(model.engine.run(rows))[:, 0] == pytest.approx(alone, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_a_causal_model_without_a_padding_token_is_batched_all_the_same(name: str, save: Any) -> None:
    model = load(save(name, pad_token_id=None), ScoringOptions(), threads=1)
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, DOCUMENTS, Cut("document"))
    alone = [model.engine.run([row])[0][0] for row in rows]
    assert np.stack(model.engine.run(rows))[:, 0] == pytest.approx(alone, abs=TOLERANCE)


def test_a_causal_row_that_ends_in_the_padding_token_is_read_where_transformers_reads_it(save: Any) -> None:
    folder = save("qwen2")
    model = load(folder, ScoringOptions(), threads=1)
    document = "mars is red <|endoftext|><|endoftext|>"
    rows = model.ranker.encode_documents(
        model.ranker.encode_query(QUERY), [document, "venus " * 20], Cut("document")
    )
    pair = AutoTokenizer.from_pretrained(folder)([QUERY], [document], return_tensors="pt")
    reference = transformers.Qwen2ForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = reference.eval()(**pair).logits.item()
    assert model.engine.run(rows)[0][0] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert mean", "deberta-v2", "qwen2"])
def test_a_bf16_encoder_has_an_fp32_head_and_stays_near_the_fp32_scores(name: str, save: Any) -> None:
    folder = save(name, initializer_range=0.05)
    exact, rounded = (
        load(folder, ScoringOptions(dtype=dtype), threads=1) for dtype in ("float32", "bfloat16")
    )
    rows = exact.ranker.encode_documents(exact.ranker.encode_query(QUERY), DOCUMENTS, Cut("document"))
    outputs = np.stack(rounded.engine.run(rows))

    assert rounded.engine.dtype == "bfloat16"
    assert outputs[:, 0] == pytest.approx(np.stack(exact.engine.run(rows))[:, 0], abs=0.05)
    as_bf16 = torch.from_numpy(outputs).to(torch.bfloat16).float().numpy()
    assert not np.array_equal(outputs, as_bf16), "logits out of an fp32 head are finer than bf16"


CHOSEN = {
    "albert": "packed",
    "bert": "cpu",
    "deberta-v2": "padded",
    "distilbert": "packed",
    "electra": "packed",
    "llama": "causal",
    "modernbert cls": "packed",
    "modernbert mean": "packed",
    "mpnet": "padded",
    "qwen2": "causal",
    "qwen3": "causal",
    "roberta": "cpu",
    "xlm-roberta": "cpu",
}


def test_each_architecture_is_computed_by_the_best_engine_that_takes_it(architecture: str, save: Any) -> None:
    model = load(save(architecture), ScoringOptions(), threads=1)
    assert (model.engine.name, model.engine.device) == (CHOSEN[architecture], "cpu")
    if CHOSEN[architecture] == "padded":
        assert "not causal, packed: " in model.engine_reason
        assert "has an attention of its own, not transformers' interface" in model.engine_reason


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        pytest.param("bert", 96, id="absolute positions"),
        pytest.param("roberta", 96, id="two of RoBERTa's 98 entries are not for tokens"),
        pytest.param("mpnet", 96, id="MPNet counts as RoBERTa does"),
    ],
)
def test_the_longest_row_is_what_the_position_table_holds(name: str, positions: int, save: Any) -> None:
    folder = save(name)
    model = load(folder, ScoringOptions(), threads=1)
    assert model.max_length == positions
    rows = model.ranker.encode_documents(model.ranker.encode_query("mars"), ["red " * 300], Cut("document"))
    assert len(rows[0].ids) == positions
    assert np.isfinite(model.engine.run(rows)).all()


def test_a_half_precision_checkpoint_is_computed_in_fp32_on_a_cpu(save: Any) -> None:
    folder = save("bert")
    transformers.BertForSequenceClassification.from_pretrained(folder, dtype=torch.float16).save_pretrained(
        folder
    )
    model = load(folder, ScoringOptions(), threads=1)
    rows = model.ranker.encode_documents(model.ranker.encode_query(QUERY), DOCUMENTS, Cut("document"))
    outputs = np.stack(model.engine.run(rows))
    assert model.engine.dtype == "float32"
    assert outputs[:, 0] == pytest.approx(reference(folder, 96)[1], abs=TOLERANCE)
