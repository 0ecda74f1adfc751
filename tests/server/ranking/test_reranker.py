"""The request path: text in, scores, order and usage out."""

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rerank_api.score_scale import ScoreScale
from rerank_server.batching import BatchReport
from rerank_server.encoding import slices
from rerank_server.engine.interface import Outputs, Row
from rerank_server.errors import ClosedError, ComputeError, InputError
from rerank_server.families.interface import Cut
from rerank_server.load import LoadedModel, ScoringOptions, load
from rerank_server.reranker import Report, Reranker, activate, best_first

Result = TypeVar("Result")
QUERY = "red planet"
TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(["mars", "venus " * 60, "[SEP]"]),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def reranker(loaded_bert: LoadedModel) -> Iterator[Reranker]:
    """Put the random BERT to work."""
    reranker = Reranker(loaded_bert)
    yield reranker
    reranker.close()


@pytest.fixture(scope="module")
def embedder(loaded_minilm: LoadedModel) -> Iterator[Reranker]:
    """Put the real MiniLM to work."""
    reranker = Reranker(loaded_minilm)
    yield reranker
    reranker.close()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on a fresh event loop."""
    return asyncio.run(work)


@settings(max_examples=30, deadline=None)
@given(documents=TEXTS, where=st.integers(0, 12))
def test_any_split_of_a_request_gives_the_scores_of_the_whole(
    documents: list[str], where: int, reranker: Reranker
) -> None:
    async def main() -> None:
        whole = await reranker.score(QUERY, documents)
        parts = await asyncio.gather(
            reranker.score(QUERY, documents[:where]), reranker.score(QUERY, documents[where:])
        )
        assert whole.values == pytest.approx(parts[0].values + parts[1].values, abs=1e-5)
        assert whole.tokens == parts[0].tokens + parts[1].tokens
        assert sorted(whole.order) == list(range(len(documents)))
        ranked = [whole.values[index] for index in whole.order]
        assert ranked == sorted(ranked, reverse=True)

    run(main())


def test_usage_is_what_the_tokenizer_counts(reranker: Reranker, bert: Path) -> None:
    documents = ["mars", "", "venus is a planet " * 50, "東京 naïve"]
    tokenizer = AutoTokenizer.from_pretrained(bert)
    pairs = tokenizer([QUERY] * 4, documents, truncation="only_second", max_length=96)["input_ids"]
    assert run(reranker.score(QUERY, documents)).tokens == sum(map(len, pairs))


def test_usage_of_an_embedding_model_counts_the_query_once(embedder: Reranker, minilm: Path) -> None:
    documents = ["Mars is red.", "", "Venus is hot. " * 200]
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    encoded = tokenizer([QUERY, *documents], truncation=True, max_length=256)["input_ids"]
    assert run(embedder.score(QUERY, documents)).tokens == sum(map(len, encoded))


def test_the_real_minilm_puts_the_answer_first(embedder: Reranker) -> None:
    documents = ["Venus is Earth's twin.", "Mars is called the Red Planet.", "Bread is baked in an oven."]
    scores = run(embedder.score("Which planet is known as the Red Planet?", documents))
    assert scores.order == (1, 0, 2)
    assert all(-1 <= value <= 1 for value in scores.values)


def test_a_document_is_cut_to_its_own_first_tokens(reranker: Reranker) -> None:
    ranker = reranker.loaded.ranker
    long, short = ranker.encode_documents(
        ranker.encode_query(QUERY), ["mars venus jupiter saturn", "mars venus"], Cut("document", 2)
    )
    assert long == short
    assert run(reranker.score(QUERY, ["mars venus jupiter"], max_document_tokens=2)).tokens == len(short.ids)


@pytest.mark.parametrize(
    ("query", "documents", "options", "param", "words"),
    [
        pytest.param(
            "red " * 93, ["a"], {}, "query", "`query` has 93 tokens, and at most 92 fit", id="query"
        ),
        pytest.param(
            QUERY,
            ["mars", "venus " * 92],
            {"truncate": "error"},
            "documents[1]",
            r"`documents\[1\]` has 92 tokens beside 5 .* takes 96 together: shorten it to 91",
            id="a document that must not be cut",
        ),
        pytest.param(
            QUERY,
            ["mars", "\ud83d"],
            {},
            "documents[1]",
            r"character 0 .* \(U\+D83D\)",
            id="half a surrogate",
        ),
        pytest.param("ok \udc00", ["mars"], {}, "query", r"character 3 .* \(U\+DC00\)", id="in the query"),
        pytest.param(
            QUERY, ["mars"], {"max_document_tokens": 0}, "max_document_tokens", "at least 1", id="no tokens"
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_field(
    query: str, documents: list[str], options: dict[str, Any], param: str, words: str, reranker: Reranker
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        run(reranker.score(query, documents, **options))
    assert refused.value.param == param


def test_half_a_surrogate_is_refused_by_an_embedding_model_too(embedder: Reranker) -> None:
    for query, documents, param in (("\ud800", ["a"], "query"), ("a", ["b", "\ud800"], "documents[1]")):
        with pytest.raises(InputError) as refused:
            run(embedder.score(query, documents))
        assert refused.value.param == param


def test_a_fault_far_into_a_large_request_names_its_own_document(reranker: Reranker) -> None:
    with pytest.raises(InputError) as refused:
        run(reranker.score(QUERY, ["mars"] * 300 + ["\ud800"]))
    assert refused.value.param == "documents[300]"


def test_a_document_that_just_fits_is_no_error(reranker: Reranker) -> None:
    assert run(reranker.score(QUERY, ["venus " * 91], truncate="error")).tokens == 96
    assert run(reranker.score("red " * 92, ["venus mars"])).tokens == 96


def test_the_manifests_truncate_holds_where_the_request_says_nothing(loaded_bert: LoadedModel) -> None:
    strict = Reranker(dataclasses.replace(loaded_bert, options=ScoringOptions(truncate="error")))
    with pytest.raises(InputError, match="let documents be cut"):
        run(strict.score(QUERY, ["venus " * 92]))
    assert run(strict.score(QUERY, ["venus " * 92], truncate="document")).tokens == 96
    strict.close()


def test_no_documents_are_no_work(reranker: Reranker) -> None:
    scores = run(reranker.score(QUERY, []))
    assert (scores.values, scores.order, scores.tokens) == ((), (), 0)


def test_sigmoid_changes_the_values_and_not_the_order(loaded_bert: LoadedModel, reranker: Reranker) -> None:
    documents = ["mars", "venus is hot", "saturn has a ring", "mars"]
    squashed = Reranker(dataclasses.replace(loaded_bert, options=ScoringOptions(activation="sigmoid")))
    plain, sigmoid = run(reranker.score(QUERY, documents)), run(squashed.score(QUERY, documents))
    squashed.close()
    assert sigmoid.order == plain.order
    assert sigmoid.values == pytest.approx([1 / (1 + np.exp(-value)) for value in plain.values], abs=1e-6)
    scales = (loaded_bert.score_scale, squashed.loaded.score_scale)
    assert scales == (ScoreScale.LOGIT, ScoreScale.PROBABILITY)


def test_order_is_by_raw_scores_even_where_sigmoid_makes_them_equal() -> None:
    raw = np.array([30.0, 40.0, 30.0, -200.0], dtype=np.float32)
    assert best_first(raw) == (1, 0, 2, 3)
    assert activate(raw, "sigmoid").tolist() == [1.0, 1.0, 1.0, 0.0]
    assert activate(raw, "sigmoid").dtype == np.float32


class Broken:
    """A real engine whose weights went bad: one of its outputs is no number."""

    def __init__(self, engine: Any, value: float) -> None:
        self._engine = engine
        self._value = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Spoil the last output."""
        outputs: Outputs = self._engine.run(rows)
        outputs[-1] = np.full_like(outputs[-1], self._value)
        return outputs


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_never_served(value: float, loaded_bert: LoadedModel) -> None:
    broken = Reranker(dataclasses.replace(loaded_bert, engine=Broken(loaded_bert.engine, value)))
    with pytest.raises(ComputeError, match=r"documents\[1\] is .*, which is no number"):
        run(broken.score(QUERY, ["mars", "venus"]))
    broken.close()


def test_a_closed_reranker_takes_no_more_requests(loaded_bert: LoadedModel) -> None:
    reranker = Reranker(loaded_bert)
    reranker.close()
    with pytest.raises(ClosedError, match="shutting down"):
        run(reranker.score(QUERY, ["mars"]))


def test_a_cancelled_request_leaves_the_queue(loaded_bert: LoadedModel) -> None:
    async def main() -> None:
        loop, running = asyncio.get_running_loop(), asyncio.Event()
        reranker = Reranker(loaded_bert, observe=lambda _: loop.call_soon_threadsafe(running.set))
        different = [
            " ".join("mars" if number >> bit & 1 else "planet" for bit in range(11)) for number in range(2000)
        ]
        large = asyncio.ensure_future(reranker.score(QUERY, different))
        await running.wait()
        assert reranker.queued_tokens > 0
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        assert reranker.queued_tokens == 0
        await asyncio.to_thread(reranker.close)

    run(main())


def test_a_row_that_would_be_empty_is_still_scored(save: Callable[..., Path]) -> None:
    model = load(save("qwen2"), ScoringOptions(), threads=1)
    reranker = Reranker(model)
    scores = run(reranker.score("", ["", "mars"]))
    reranker.close()
    assert all(np.isfinite(scores.values))
    assert scores.tokens > 1


@given(st.lists(st.text(max_size=20), max_size=40), st.integers(1, 10), st.integers(1, 60))
def test_slices_cover_a_request_in_order_and_within_bounds(
    documents: list[str], max_documents: int, max_characters: int
) -> None:
    parts = list(slices(documents, max_documents, max_characters))
    assert [index for start, end in parts for index in range(start, end)] == list(range(len(documents)))
    for start, end in parts:
        assert end - start <= max_documents
        assert end - start == 1 or sum(map(len, documents[start:end])) <= max_characters


def test_a_document_that_comes_twice_is_run_once_scored_alike_and_counted_twice(
    loaded_bert: LoadedModel,
) -> None:
    reports: list[Report] = []
    reranker = Reranker(loaded_bert, observe=reports.append)
    texts = ["mars", "venus is a planet", "mars", "a planet", "venus is a planet", "mars"]
    scores = run(reranker.score(QUERY, texts))
    alone = [run(reranker.score(QUERY, [text])) for text in texts]
    reranker.close()
    assert next(report.rows for report in reports if isinstance(report, BatchReport)) == 3
    assert scores.tokens == sum(one.tokens for one in alone)
    assert scores.values[0] == scores.values[2] == scores.values[5]
    assert scores.values[1] == scores.values[4]
    assert scores.values == pytest.approx([one.values[0] for one in alone], abs=1e-5)
