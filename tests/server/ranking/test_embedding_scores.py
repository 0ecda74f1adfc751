"""Scores of embedding models are sentence-transformers' own cosines."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import LayerNorm
from torch import nn

from rerank_api.score_scale import ScoreScale
from rerank_server.errors import InputError, LoadError
from rerank_server.families.interface import Cut
from rerank_server.load import LoadedModel, ScoringOptions, load

QUERY = "which planet is known as the red planet"
DOCUMENTS = [
    "mars",
    "venus is often called the twin of the sun because of its similar size and proximity",
    "",
    "mars , known for its reddish appearance , is often referred to as the red planet . " * 30,
    "東京 naïve München \x00 [SEP] tokens",
]
TOLERANCE = 1e-5


def scores(model: LoadedModel, query: str, documents: list[str]) -> Any:
    """Score in one batch, without the threads around."""
    encoded = model.ranker.encode_query(query)
    rows = model.ranker.encode_documents(encoded, documents, Cut("document"))
    return model.ranker.scores(model.engine.run([*encoded.rows, *rows]))


def cosines(folder: Path) -> Any:
    """Let sentence-transformers do the same."""
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    query = reference.encode_query(QUERY)
    documents = reference.encode_document(DOCUMENTS)
    return reference.similarity(query, documents)[0].numpy()


def test_the_real_minilm_gives_the_cosines_of_sentence_transformers(
    minilm: Path, loaded_minilm: LoadedModel
) -> None:
    assert scores(loaded_minilm, QUERY, DOCUMENTS) == pytest.approx(cosines(minilm), abs=TOLERANCE)
    assert (loaded_minilm.family, loaded_minilm.max_length) == ("embedding", 256)


@pytest.mark.parametrize(
    "mode", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")]
)
def test_every_pooling_mode_is_that_of_sentence_transformers(mode: Any, embedding_model: Any) -> None:
    folder = embedding_model(mode)
    assert scores(load(folder, ScoringOptions(), threads=1), QUERY, DOCUMENTS) == pytest.approx(
        cosines(folder), abs=TOLERANCE
    )


@pytest.mark.parametrize(
    ("steps", "similarity"),
    [
        pytest.param(lambda: [Normalize()], "cosine", id="normalised"),
        pytest.param(lambda: [Dense(32, 16), LayerNorm(16)], "cosine", id="dense with tanh, then layer norm"),
        pytest.param(
            lambda: [Dense(32, 24, bias=False, activation_function=nn.Identity())],
            "dot",
            id="dense alone, compared by dot product",
        ),
    ],
)
def test_steps_after_pooling_are_run(steps: Any, similarity: str, embedding_model: Any) -> None:
    torch.manual_seed(5)
    folder = embedding_model("mean", *steps(), similarity_fn_name=similarity)
    model = load(folder, ScoringOptions(), threads=1)
    assert scores(model, QUERY, DOCUMENTS) == pytest.approx(cosines(folder), rel=1e-5, abs=TOLERANCE)
    assert model.score_scale is {"cosine": ScoreScale.COSINE, "dot": ScoreScale.DOT_PRODUCT}[similarity]


def test_the_checkpoints_prompts_are_put_before_query_and_documents(embedding_model: Any) -> None:
    prompts = {"query": "query : ", "document": "document : "}
    folder = embedding_model("mean", prompts=prompts)
    with_prompts = scores(load(folder, ScoringOptions(), threads=1), QUERY, DOCUMENTS)
    assert with_prompts == pytest.approx(cosines(folder), abs=TOLERANCE)

    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prompts": {}}))
    without = scores(load(folder, ScoringOptions(), threads=1), QUERY, DOCUMENTS)
    assert np.abs(with_prompts - without).max() > 1e-3


def test_a_prompt_is_not_counted_among_a_documents_own_tokens(embedding_model: Any) -> None:
    model = load(embedding_model("mean", prompts={"document": "document : "}), ScoringOptions(), threads=1)
    query = model.ranker.encode_query("mars")
    [row] = model.ranker.encode_documents(query, ["red planet mars venus"], Cut("document", 2))
    assert len(row.ids) == len(["[CLS]", "document", ":", "red", "planet", "[SEP]"])


def test_a_query_that_does_not_fit_is_refused_and_never_cut(loaded_minilm: LoadedModel) -> None:
    with pytest.raises(InputError, match="`query` has 255 tokens, and 254 fit") as refused:
        loaded_minilm.ranker.encode_query("mars " * 255)
    assert refused.value.param == "query"
    [row] = loaded_minilm.ranker.encode_query("mars " * 254).rows
    assert len(row.ids) == 256


def test_a_bare_encoder_is_an_embedding_model_only_if_the_manifest_says_so(
    minilm: Path, tmp_path: Path, loaded_minilm: LoadedModel
) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        shutil.copy(minilm / name, tmp_path)
    with pytest.raises(LoadError, match=r"BertModel .* is not supported.*there is no modules.json"):
        load(tmp_path, ScoringOptions(), threads=1)
    bare = load(tmp_path, ScoringOptions(family="embedding"), threads=1)
    assert bare.max_length == 512
    short = DOCUMENTS[:3]
    assert scores(bare, QUERY, short) == pytest.approx(scores(loaded_minilm, QUERY, short), abs=TOLERANCE)


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(
            lambda root: edit(root / "1_Pooling" / "config.json", pooling_mode="attention"),
            "its pooling mode is attention",
            id="unknown pooling",
        ),
        pytest.param(
            lambda root: edit(root / "config_sentence_transformers.json", similarity_fn_name="manhattan"),
            "its similarity is manhattan, not cosine or dot",
            id="another similarity",
        ),
        pytest.param(
            lambda root: edit(root / "config_sentence_transformers.json", model_type="SparseEncoder"),
            "declares a SparseEncoder",
            id="a sparse encoder",
        ),
        pytest.param(
            lambda root: edit(root / "2_Dense" / "config.json", out_features=1),
            "As embedding: its modules end in a single score",
            id="a scorer made of modules",
        ),
        pytest.param(
            lambda root: edit(root / "2_Dense" / "config.json", out_features=7),
            "2_Dense/model.safetensors does not fit its config.json",
            id="a dense layer of another size",
        ),
        pytest.param(
            lambda root: edit(root / "2_Dense" / "config.json", activation_function="my.code.Act"),
            "2_Dense has the activation my.code.Act",
            id="an activation that is code of the checkpoint",
        ),
        pytest.param(
            lambda root: (root / "2_Dense" / "model.safetensors").unlink(),
            "2_Dense holds no model.safetensors",
            id="no dense weights",
        ),
        pytest.param(
            lambda root: (root / "modules.json").write_text('[{"type": "x.Router", "path": ""}]'),
            "modules.json lists Router",
            id="another first module",
        ),
        pytest.param(
            lambda root: (root / "modules.json").write_text('[{"type": "x.Transformer", "path": "../.."}]'),
            "names the folder `../..`, which is outside",
            id="a folder outside of the checkpoint",
        ),
        pytest.param(
            lambda root: (root / "modules.json").write_text('{"a": 1}'),
            "is not a list of modules",
            id="a modules.json of another shape",
        ),
    ],
)
def test_what_cannot_be_done_as_the_checkpoint_wants_is_refused(
    damage: Any, sentence: str, embedding_model: Any
) -> None:
    folder = embedding_model("mean", Dense(32, 16))
    damage(folder)
    with pytest.raises(LoadError, match=sentence):
        load(folder, ScoringOptions(), threads=1)
