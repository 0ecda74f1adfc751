"""Which engine takes a model, and what the others say why they do not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from rerank_server.engine import selfcheck
from rerank_server.engine.readout import Classifier, NextToken, TokenVectors
from rerank_server.errors import LoadError
from tests.server.engines.cases import (
    CASES,
    CAUSAL,
    PADDED,
    Case,
    difference,
    make_rows,
    one_by_one,
    open_case,
    save,
)
from tests.server.ranking.conftest import POSITIONS, SIZES

BY_NAME = {str(case): case for case in CASES}
MOBILE = Case(
    "cross-encoder",
    "mobilebert",
    "MobileBertForSequenceClassification",
    {**SIZES, "embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    Classifier(),
    PADDED,
)
EURO = Case(
    "cross-encoder",
    "eurobert",
    "EuroBertForSequenceClassification",
    {**SIZES, "classifier_pooling": "late"},
    Classifier(),
    PADDED,
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_best_engine_that_takes_a_model_is_chosen_by_itself(case: Case, tmp_path: Path) -> None:
    computed = open_case(case, save(case, tmp_path))
    assert computed.engine.name == case.engines[0]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        pytest.param(
            MOBILE, "not packed: on a made-up row of .* it differs from the padded engine by", id="leaks"
        ),
        pytest.param(EURO, "not packed: EuroBertForSequenceClassification pools by `late`", id="pools late"),
        pytest.param(
            BY_NAME["causal language model, gemma 2"],
            r"not causal, packed: Gemma2ForCausalLM caps its attention \(attn_logit_softcapping\)",
            id="caps its attention",
        ),
        pytest.param(
            BY_NAME["cross-encoder, mpnet"],
            "not causal, packed: MPNetForSequenceClassification has an attention of its own",
            id="own attention",
        ),
        pytest.param(
            replace(
                BY_NAME["causal language model, llama"],
                config={"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            ),
            r"not causal, packed: LlamaForCausalLM has positions \(dynamic\) that change with the longest",
            id="positions depend on the batch",
        ),
    ],
)
def test_what_cannot_be_packed_is_padded_with_the_reason_and_scores_as_if_nothing_had_been_tried(
    case: Case, reason: str, tmp_path: Path
) -> None:
    save(case, tmp_path)
    tried = open_case(case, tmp_path)
    untouched = open_case(case, tmp_path, "padded").engine
    rows = make_rows(case, [5, 30, POSITIONS, 1], seed=4)

    assert tried.engine.name == "padded"
    assert pytest.approx(0) == difference(tried.engine.run(rows), untouched.run(rows))
    assert re.search(reason, tried.reason)


def test_a_lack_of_memory_says_nothing_of_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise MemoryError("no room")

    case = BY_NAME["cross-encoder, electra"]
    save(case, tmp_path)
    monkeypatch.setattr(selfcheck, "compare", lacking)
    with pytest.raises(MemoryError, match="no room"):
        open_case(case, tmp_path)


def test_a_named_engine_that_cannot_take_the_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    case = BY_NAME["cross-encoder, deberta-v2"]
    save(case, tmp_path)
    with pytest.raises(LoadError, match="cannot be computed by the engine `packed`: not packed: DebertaV2"):
        open_case(case, tmp_path, "packed")
    with pytest.raises(LoadError, match="by the engine `fast`: there is cpu, causal, packed, padded"):
        open_case(case, tmp_path, "fast")


def test_only_causal_models_share_a_beginning(tmp_path: Path) -> None:
    case = BY_NAME["cross-encoder, electra"]
    with pytest.raises(LoadError, match="not causal: ElectraForSequenceClassification attends to what comes"):
        open_case(case, save(case, tmp_path), "causal")


def test_a_causal_model_whose_every_token_is_read_is_packed_without_sharing(tmp_path: Path) -> None:
    case = replace(BY_NAME["embedding, qwen3, last token"], readout=TokenVectors())
    computed = open_case(case, save(case, tmp_path))
    assert computed.engine.name == "packed"
    assert "not causal: it reads the last token of rows only" in computed.reason


def test_a_token_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    case = replace(BY_NAME["causal language model, qwen3"], readout=NextToken((5, 300)))
    with pytest.raises(LoadError, match="has 300 tokens, and the token 300 is asked for"):
        open_case(case, save(case, tmp_path))


def test_logits_that_are_changed_after_the_output_layer_are_no_scores_of_ours(tmp_path: Path) -> None:
    case = Case(
        "causal language model",
        "granite",
        "GraniteForCausalLM",
        {**CAUSAL, "logits_scaling": 4.0},
        NextToken((5,)),
        PADDED,
    )
    with pytest.raises(LoadError, match="GraniteForCausalLM changes its logits after the output layer, by"):
        open_case(case, save(case, tmp_path))


def test_an_encoder_is_asked_for_no_next_token(tmp_path: Path) -> None:
    case = replace(BY_NAME["cross-encoder, electra"], readout=NextToken((5,)))
    with pytest.raises(LoadError, match="predicts no next token: only \\*ForCausalLM models do"):
        open_case(case, save(case, tmp_path))


@pytest.mark.parametrize(
    "name", ["cross-encoder, electra", "causal language model, qwen3", "multi-vector, bert"]
)
def test_a_bf16_model_is_packed_with_an_fp32_head(name: str, tmp_path: Path) -> None:
    case = replace(BY_NAME[name], config={"initializer_range": 0.05})
    save(case, tmp_path)
    exact = open_case(case, tmp_path, "padded").engine
    engine = open_case(case, tmp_path, "packed", "bfloat16").engine
    rows = make_rows(case, [5, 60, 33], seed=8)
    outputs = engine.run(rows)

    assert engine.dtype == "bfloat16"
    assert difference(outputs, one_by_one(exact, rows)) < 0.05
    assert all(output.dtype == "float32" for output in outputs)
    assert any((output.view("uint32") & 0xFFFF).any() for output in outputs), "finer than bf16"


def test_the_model_is_loaded_once_whichever_engines_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    load = transformers.MobileBertForSequenceClassification.from_pretrained

    def counting(*arguments: object, **named: object) -> object:
        loaded.append(arguments)
        return load(*arguments, **named)

    monkeypatch.setattr(transformers.MobileBertForSequenceClassification, "from_pretrained", counting)
    assert open_case(MOBILE, save(MOBILE, tmp_path)).engine.name == "padded"
    assert len(loaded) == 1


def test_weights_that_are_no_numbers_are_left_to_the_verification(tmp_path: Path) -> None:
    case = BY_NAME["cross-encoder, electra"]
    save(case, tmp_path)
    model = transformers.ElectraForSequenceClassification.from_pretrained(tmp_path)
    torch.nn.init.constant_(model.classifier.out_proj.weight, float("nan"))
    model.save_pretrained(tmp_path)
    computed = open_case(case, tmp_path)
    assert computed.engine.name == "padded"
    assert "not packed: the padded engine's values are no finite numbers" in computed.reason
