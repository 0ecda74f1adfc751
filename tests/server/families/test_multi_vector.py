"""Scores of ColBERT-like models are those of sentence-transformers' MultiVectorEncoder."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from rerank_api.score_scale import ScoreScale
from rerank_server.errors import InputError, LoadError
from rerank_server.families.checkpoint import read_checkpoint
from rerank_server.families.interface import Cut
from rerank_server.families.registry import choose_family
from rerank_server.load import LoadedModel, ScoringOptions, load

QUERY = "Which planet is called the red planet?"
DOCUMENTS = [
    "mars",
    "Mars, the red planet. (Venus: hot!)",
    "",
    "mars , venus . " * 40,
    "東京 naïve München ?!",
]
TOLERANCE = 1e-5


def scores(model: LoadedModel, query: str = QUERY) -> Any:
    """Score in one batch."""
    encoded = model.ranker.encode_query(query)
    rows = [*encoded.rows, *model.ranker.encode_documents(encoded, DOCUMENTS, Cut("document"))]
    return model.ranker.scores(model.engine.run(rows), rows)


def expected(folder: Path, query: str = QUERY) -> Any:
    """Let sentence-transformers do the same, a document at a time."""
    reference = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    asked = reference.encode_query([query])
    return [reference.similarity(asked, reference.encode_document([text])).item() for text in DOCUMENTS]


def projection(width: int = 16) -> Dense:
    """Give a random layer over token vectors."""
    torch.manual_seed(17)
    return Dense(
        32, width, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings"
    )


def save_native(encoder: Path, target: Path, *modules: nn.Module, prompts: Any = None, **knobs: Any) -> Path:
    """Save as sentence-transformers does."""
    MultiVectorEncoder(
        modules=[Transformer(str(encoder), **knobs), projection(), *modules], prompts=prompts, device="cpu"
    ).save(str(target))
    return target


def save_pylate(encoder: Path, **settings: Any) -> Path:
    """Write PyLate's files around an encoder."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (encoder / "modules.json").write_text(json.dumps(modules))
    (encoder / "sentence_bert_config.json").write_text('{"max_seq_length": 39, "do_lower_case": false}')
    defaults = {
        "model_type": "ColBERT",
        "prompts": {},
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 24,
        "document_length": 40,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }
    (encoder / "config_sentence_transformers.json").write_text(json.dumps(defaults | settings))
    dense = projection()
    (encoder / "1_Dense").mkdir()
    config = {"in_features": 32, "out_features": 16, "bias": False}
    config["activation_function"] = "torch.nn.modules.linear.Identity"
    (encoder / "1_Dense" / "config.json").write_text(json.dumps(config))
    save_file({"linear.weight": dense.linear.weight.data}, encoder / "1_Dense" / "model.safetensors")
    return encoder


def save_stanford(encoder: Path, metadata: dict[str, Any] | None) -> Path:
    """Turn an encoder into what Stanford's code saves."""
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(encoder / "model.safetensors").items()}
    tensors["linear.weight"] = projection().linear.weight.data
    save_file(tensors, encoder / "model.safetensors", {"format": "pt"})
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    if metadata is not None:
        (encoder / "artifact.metadata").write_text(json.dumps(metadata))
    return encoder


PYLATE = [
    pytest.param({}, ("[Q] ", "[D] "), id="markers with their space are tokens"),
    pytest.param({}, (), id="markers that the tokenizer does not have"),
    pytest.param({"query_prefix": "[unused0] ", "document_prefix": "[unused1] "}, (), id="words as markers"),
    pytest.param({"attend_to_expansion_tokens": True}, ("[Q] ", "[D] "), id="extra tokens are attended to"),
    pytest.param({"do_query_expansion": False}, ("[Q] ", "[D] "), id="no extra tokens"),
    pytest.param({"skiplist_words": []}, ("[Q] ", "[D] "), id="punctuation counts"),
    pytest.param({"skiplist_words": None, "model_type": "ColBERT"}, (), id="punctuation by default"),
    pytest.param({"prompts": {"query": "search : ", "document": "passage : "}}, ("[Q] ",), id="prompts too"),
]


@pytest.mark.parametrize(("settings", "added"), PYLATE)
def test_pylates_models(settings: dict[str, Any], added: tuple[str, ...], save_encoder: Any) -> None:
    folder = save_pylate(save_encoder("model", added_tokens=added), **settings)
    model = load(folder, ScoringOptions(), threads=1)
    assert (model.family, model.max_length) == ("multi-vector", 40)
    assert scores(model) == pytest.approx(expected(folder), abs=TOLERANCE)
    assert scores(model, "mars") == pytest.approx(expected(folder, "mars"), abs=TOLERANCE)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(None, id="no metadata"),
        pytest.param({"doc_maxlen": 30, "query_maxlen": 20, "mask_punctuation": False}, id="lengths"),
        pytest.param(
            {"query_token_id": "[unused1]", "doc_token_id": "[unused0]", "attend_to_mask_tokens": True},
            id="markers of its own",
        ),
    ],
)
def test_stanfords_models(metadata: dict[str, Any] | None, save_encoder: Any) -> None:
    folder = save_stanford(save_encoder("model"), metadata)
    model = load(folder, ScoringOptions(), threads=1)
    assert model.family == "multi-vector"
    assert scores(model) == pytest.approx(expected(folder), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("modules", "knobs"),
    [
        pytest.param(
            lambda: [MultiVectorMask(list(string.punctuation)), Normalize("token_embeddings")],
            {"query_expansion": {"strategy": "fixed", "length": 20}, "document_length": 30},
            id="classic",
        ),
        pytest.param(
            lambda: [
                MultiVectorMask(list(string.punctuation), skiplist_tasks=["query", "document"]),
                Normalize("token_embeddings"),
            ],
            {"query_expansion": {"strategy": "min", "length": 24, "token": "[unused1]", "attend": True}},
            id="punctuation of queries is left out too",
        ),
        pytest.param(lambda: [MultiVectorMask()], {}, id="vectors as they are"),
    ],
)
def test_sentence_transformers_models(modules: Any, knobs: Any, save_encoder: Any, tmp_path: Path) -> None:
    folder = save_native(
        save_encoder("encoder"),
        tmp_path / "model",
        *modules(),
        prompts={"query": "query : ", "document": "document : "},
        **knobs,
    )
    model = load(folder, ScoringOptions(), threads=1)
    assert model.family == "multi-vector"
    assert scores(model) == pytest.approx(expected(folder), rel=1e-5, abs=TOLERANCE)


def test_the_mean_over_query_tokens_where_the_files_declare_it(save_encoder: Any) -> None:
    folder = save_pylate(save_encoder("model"), similarity_fn_name="meanmaxsim")
    model = load(folder, ScoringOptions(), threads=1)
    assert scores(model) == pytest.approx(expected(folder), abs=TOLERANCE)
    assert np.abs(scores(model)).max() <= 1


@pytest.mark.parametrize("engine", ["cpu", "packed", "padded"])
def test_every_engine_gives_these_scores(engine: str, save_encoder: Any) -> None:
    folder = save_pylate(save_encoder("model"))
    model = load(folder, ScoringOptions(), threads=1, engine=engine)
    assert model.engine.name == engine
    assert scores(model) == pytest.approx(expected(folder), abs=TOLERANCE)


def test_a_query_that_is_longer_than_usual_is_kept_whole(save_encoder: Any) -> None:
    model = load(save_pylate(save_encoder("model")), ScoringOptions(), threads=1)
    [short] = model.ranker.encode_query("mars").rows
    [long] = model.ranker.encode_query("mars " * 60).rows
    assert (len(short.ids), short.unattended > 0) == (24, True)
    assert (len(long.ids) > 60, long.unattended) == (True, 0)
    with pytest.raises(InputError, match=r"`query` has \d+ tokens, and 94 fit") as refused:
        model.ranker.encode_query("mars " * 100)
    assert refused.value.param == "query"


def test_documents_are_cut_and_queries_are_not(save_encoder: Any) -> None:
    model = load(save_pylate(save_encoder("model")), ScoringOptions(max_length=20), threads=1)
    query = model.ranker.encode_query(QUERY)
    [row] = model.ranker.encode_documents(query, ["mars " * 50], Cut("document"))
    assert (len(row.ids), len(query.rows[0].ids)) == (20, 24)
    with pytest.raises(InputError, match=r"`documents\[3\]` has \d+ tokens") as refused:
        model.ranker.encode_documents(query, ["mars " * 50], Cut("error"), first=3)
    assert refused.value.param == "documents[3]"
    [row, prefix] = model.ranker.encode_documents(query, ["mars venus", ""], Cut("document", 1))
    assert len(row.ids) == len(prefix.ids) + 1


def test_a_sum_of_cosines_is_shown_as_their_mean_between_0_and_1(save_encoder: Any) -> None:
    model = load(save_pylate(save_encoder("model")), ScoringOptions(), threads=1)
    raw = scores(model)
    assert model.scale(raw) == pytest.approx(np.clip(raw / 24, 0, 1), abs=1e-6)
    assert model.score_scale is ScoreScale.MAX_SIM


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(
            lambda root: (root / "modules.json").write_text(
                '[{"type": "x.Transformer", "path": ""}, {"type": "x.LambdaTokenPooling", "path": "1_Dense"}]'
            ),
            "modules.json lists Transformer, LambdaTokenPooling",
            id="documents' vectors are merged",
        ),
        pytest.param(
            lambda root: (root / "1_Dense" / "config.json").write_text(
                '{"in_features": 32, "out_features": 16, "use_residual": true}'
            ),
            "1_Dense is not a plain dense layer",
            id="a residual layer",
        ),
    ],
)
def test_what_is_not_done_here_is_refused(damage: Any, sentence: str, save_encoder: Any) -> None:
    folder = save_pylate(save_encoder("model"))
    damage(folder)
    with pytest.raises(LoadError, match=sentence):
        choose_family(read_checkpoint(folder))


def test_a_stanford_model_without_its_projection_is_refused(save_encoder: Any) -> None:
    folder = save_stanford(save_encoder("model"), None)
    tensors = load_file(folder / "model.safetensors")
    del tensors["linear.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(LoadError, match=r"lack linear\.weight, which a ColBERT model needs"):
        load(folder, ScoringOptions(), threads=1)
