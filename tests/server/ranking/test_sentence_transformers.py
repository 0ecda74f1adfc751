"""Cross-encoders give the scores, the order and the tokens of sentence-transformers' CrossEncoder."""

from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from rerank_server.families.interface import Cut
from rerank_server.load import ScoringOptions, load
from rerank_server.reranker import best_first

QUERY = "which planet is known as the red planet"
DOCUMENTS = [
    "mars",
    "venus is often called the twin of the sun because of its similar size and proximity",
    "mars , known for its reddish appearance , is often referred to as the red planet",
    "東京 naïve München [SEP] tokens",
    "saturn , famous for its ring , is sometimes mistaken for a star",
]


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama"])
def test_causal_cross_encoders_compute_the_query_once(name: str, save: Any) -> None:
    folder = save(name)
    model, padded = (
        load(folder, ScoringOptions(), threads=1, engine=engine) for engine in ("auto", "padded")
    )
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, DOCUMENTS, Cut("document"))
    assert {tuple(row.ids[: row.shared]) for row in rows} == {tuple(rows[0].ids[: rows[0].shared])}
    assert rows[0].shared >= len(query.ids)
    assert model.engine.name == "causal"
    expected = padded.ranker.scores(padded.engine.run(rows), rows)
    assert model.ranker.scores(model.engine.run(rows), rows) == pytest.approx(expected, abs=1e-5)


def test_scores_order_and_tokens_are_those_of_sentence_transformers(architecture: str, save: Any) -> None:
    folder = save(architecture)
    model = load(folder, ScoringOptions(), threads=1)
    query = model.ranker.encode_query(QUERY)
    rows = model.ranker.encode_documents(query, DOCUMENTS, Cut("document"))
    scores = model.ranker.scores(model.engine.run(rows), rows)

    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    raw = reference.predict(pairs, activation_fn=torch.nn.Identity(), batch_size=1)
    assert scores == pytest.approx(raw, abs=1e-5)
    assert best_first(scores) == tuple(np.argsort(-raw, kind="stable").tolist())
    assert model.scale(scores) == pytest.approx(reference.predict(pairs, batch_size=1), abs=1e-5)
    counted = reference.tokenizer([QUERY] * len(DOCUMENTS), DOCUMENTS)["input_ids"]
    assert [len(row.ids) for row in rows] == list(map(len, counted))
