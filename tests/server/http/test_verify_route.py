"""`POST /verify`: the scores of a running server, compared once more."""

from collections.abc import Iterator
from typing import Any

import pytest

from rerank_api.verification import VerificationReport
from tests.support.servers import Server, running

RIGHT = {"query": "What is a panda?", "documents": ["hi", "it is a bear"]}


def value(server: Any, metric: str) -> float:
    [line] = [line for line in server.metrics().splitlines() if line.startswith(f"{metric} ")]
    return float(line.split()[1])


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, make_manifest: Any) -> Iterator[Server]:
    """A server with a golden that is far off, and not required."""
    golden = {**RIGHT, "scores": [0.9, -0.9]}
    content = make_manifest("wrong", verify={"required": False, "goldens": [golden]})
    with running(tmp_path_factory.mktemp("wrong"), content) as server:
        server.wait_for("ready")
        yield server


def test_a_verification_answers_every_score_and_is_counted(minilm: Any) -> None:
    passed = 'rerank_verifications_total{outcome="passed"}'
    before = value(minilm, passed)
    status, answer = minilm.request("POST", "/verify")
    report = VerificationReport.model_validate(answer)
    assert status == 200
    assert report.passed
    assert report.checked == len(report.scores) == 4
    assert report.sets == ("self-check",)
    assert {"maxDeviation", "engineReason", "maxLength"} <= set(answer)
    assert value(minilm, passed) == before + 1
    assert value(minilm, "rerank_verification_passed") == 1
    assert value(minilm, "rerank_verification_max_deviation") == pytest.approx(report.max_deviation)
    assert minilm.status()["verification"] == {
        "checked": 4, "maxDeviation": report.max_deviation, "passed": True, "sets": ["self-check"],
    }  # fmt: skip


def test_scores_that_are_off_are_answered_with_both_numbers(wrong: Any) -> None:
    failed = 'rerank_verifications_total{outcome="failed"}'
    before = value(wrong, failed)
    status, answer = wrong.request("POST", "/verify")
    assert (status, answer["passed"], answer["required"]) == (200, False, False)
    first = answer["scores"][0]
    assert (first["golden"], first["documentIndex"], first["document"]) == ("golden 1", 0, "hi")
    assert (first["expected"], first["tolerance"], first["agrees"]) == (0.9, 0.01, False)
    assert first["deviation"] == pytest.approx(abs(first["got"] - 0.9))
    assert value(wrong, failed) == before + 1
    assert value(wrong, "rerank_verification_passed") == 0
    assert wrong.request("GET", "/readyz")[0] == 200


def test_only_a_post_starts_a_verification(minilm: Any) -> None:
    assert minilm.request("GET", "/verify")[0] == 405


def test_a_server_that_is_not_ready_has_nothing_to_verify(
    start_server: Any, make_manifest: Any, tmp_path: Any
) -> None:
    server = start_server(make_manifest("absent", {"file": {"path": str(tmp_path / "absent")}}))
    server.wait_for("failed")
    status, headers, answer = server.full("POST", "/verify")
    assert (status, answer["error"]["code"]) == (503, "model_not_ready")
    assert int(headers["retry-after"]) > 0
