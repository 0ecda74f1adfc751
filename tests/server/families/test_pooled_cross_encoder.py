"""Cross-encoders that are made of modules give sentence-transformers' own scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from torch import nn

from rerank_server.errors import LoadError
from rerank_server.families.interface import Cut
from rerank_server.load import ScoringOptions, load

QUERY = "which planet is called the red planet?"
DOCUMENTS = ["mars", "", "Venus is hot. " * 3, "mars is called the red planet", "東京 naïve München"]


@pytest.fixture
def folder(save_encoder: Any, tmp_path: Path) -> Path:
    """Save a random model as sentence-transformers does: pooling, dense with GELU, layer norm, one score."""
    encoder = save_encoder("encoder")
    torch.manual_seed(19)
    modules = [
        Transformer(str(encoder)),
        Pooling(32, "cls"),
        Dense(32, 32, bias=False, activation_function=nn.GELU()),
        LayerNorm(32),
        Dense(32, 1, activation_function=nn.Identity(), module_output_name="scores"),
    ]
    CrossEncoder(modules=modules, device="cpu").save(str(tmp_path / "model"))
    return tmp_path / "model"


@pytest.mark.parametrize("engine", ["auto", "packed", "padded"])
def test_scores_are_those_of_sentence_transformers(engine: str, folder: Path) -> None:
    model = load(folder, ScoringOptions(), threads=1, engine=engine)
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, DOCUMENTS, Cut("document"))
    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    expected = reference.predict(
        [(QUERY, document) for document in DOCUMENTS], activation_fn=nn.Identity(), batch_size=1
    )
    assert model.family == "pooled-cross-encoder"
    assert model.ranker.scores(model.engine.run(rows), rows) == pytest.approx(expected, abs=1e-5)
    assert np.std(expected) > 1e-2, "the scores of this random model must differ, or they prove nothing"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param(
            {"out_features": 2}, "its modules end in 2 numbers, and a score is one", id="two scores"
        ),
        pytest.param({"use_residual": True}, "4_Dense is not a plain dense layer", id="a residual layer"),
        pytest.param({"module_output_name": "x"}, "its last Dense does not write `scores`", id="no score"),
        pytest.param(
            {"activation_function": "own.code.Act"}, "4_Dense has the activation own.code.Act", id="own code"
        ),
    ],
)
def test_what_is_not_done_here_is_refused(changes: dict[str, Any], sentence: str, folder: Path) -> None:
    path = folder / "4_Dense" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(LoadError, match=f"As pooled-cross-encoder: {sentence}"):
        load(folder, ScoringOptions(), threads=1)
