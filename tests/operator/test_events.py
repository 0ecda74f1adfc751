"""What a model's author is told once, beside the status."""

import re
from typing import Any

import pytest

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ConditionType, ModelState
from rerank_operator.conditions import Said, settle
from rerank_operator.events import event
from rerank_operator.keys import EVENT, Key
from rerank_operator.pods import Reason
from tests.operator.given import KEY, NOW, UID, Manifest

NEVER = RerankModelStatus()


def status(state: ModelState, reason: Reason, message: str = "As it is.") -> RerankModelStatus:
    said = Said(ConditionType.READY, "True" if state is ModelState.READY else "False", reason, message)
    return RerankModelStatus(conditions=settle([said], (), 1, NOW), state=state, message=message)


def told(
    before: RerankModelStatus, after: RerankModelStatus, *, key: Key = KEY, generation: int = 1, **fields: Any
) -> Manifest | None:
    given = {"instance": "rerank-operator-1", "now": NOW, **fields}
    return event(key, UID, before, after, generation=generation, **given)


READY = status(ModelState.READY, Reason.READY)
CRASHED = status(ModelState.FAILED, Reason.CRASHED)
LOADING = status(ModelState.LOADING, Reason.LOADING)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        pytest.param(NEVER, LOADING, None, id="loading passes by itself"),
        pytest.param(NEVER, status(ModelState.PENDING, Reason.NOT_CREATED), None, id="it begins"),
        pytest.param(LOADING, status(ModelState.DOWNLOADING, Reason.DOWNLOADING), None, id="it downloads"),
        pytest.param(READY, status(ModelState.LOADING, Reason.ROLLING_OUT), None, id="a rollout goes well"),
        pytest.param(READY, status(ModelState.DEGRADED, Reason.LOADING), None, id="a second replica loads"),
        pytest.param(LOADING, READY, "Normal", id="it is ready"),
        pytest.param(NEVER, READY, "Normal", id="it is ready at once"),
        pytest.param(LOADING, status(ModelState.IDLE, Reason.SCALED_TO_ZERO), "Normal", id="it rests"),
        pytest.param(LOADING, CRASHED, "Warning", id="it crashes"),
        pytest.param(READY, CRASHED, "Warning", id="it crashes though it was ready"),
        pytest.param(CRASHED, READY, "Normal", id="it is ready again"),
        pytest.param(
            LOADING, status(ModelState.PENDING, Reason.UNSCHEDULABLE), "Warning", id="it waits for people"
        ),
        pytest.param(
            READY, status(ModelState.DEGRADED, Reason.IMAGE_NOT_PULLED), "Warning", id="a rollout fails"
        ),
        pytest.param(
            CRASHED, status(ModelState.FAILED, Reason.OUT_OF_MEMORY), "Warning", id="it fails another way"
        ),
        pytest.param(READY, READY, None, id="it is ready still"),
        pytest.param(CRASHED, CRASHED, None, id="it fails still"),
        pytest.param(
            CRASHED, status(ModelState.FAILED, Reason.CRASHED, "Another line."), None, id="in other words"
        ),
        pytest.param(
            status(ModelState.FAILED, Reason.IMAGE_NOT_PULLED),
            status(ModelState.DEGRADED, Reason.IMAGE_NOT_PULLED),
            None,
            id="for the same reason in another state",
        ),
        pytest.param(READY, NEVER, None, id="nothing is said at all"),
    ],
)
def test_there_is_one_event_for_what_happens_and_none_for_what_passes(
    before: RerankModelStatus, after: RerankModelStatus, kind: str | None
) -> None:
    found = told(before, after)
    assert (found and found["type"]) == kind


def test_an_event_says_what_the_status_says_and_whom_it_is_about() -> None:
    found = told(NEVER, status(ModelState.FAILED, Reason.CRASHED, "The server ended."))
    assert found is not None
    assert (found["reason"], found["note"], found["action"]) == ("Crashed", "The server ended.", "Reconcile")
    assert found["regarding"] == {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "namespace": KEY.namespace,
        "name": KEY.name,
        "uid": UID,
    }
    assert found["metadata"]["namespace"] == KEY.namespace
    assert found["eventTime"] == "2026-01-31T12:00:00.000000Z"
    assert (found["reportingController"], found["reportingInstance"]) == (
        "rerank.dev/operator",
        "rerank-operator-1",
    )
    assert (found["apiVersion"], found["kind"]) == (EVENT.api_version, EVENT.kind)


def name(before: RerankModelStatus, after: RerankModelStatus, **fields: Any) -> str:
    found = told(before, after, **fields)
    assert found is not None
    return str(found["metadata"]["name"])


def test_what_comes_and_goes_has_one_name_so_that_it_is_told_once() -> None:
    assert name(READY, CRASHED) == name(LOADING, CRASHED, instance="another")


@pytest.mark.parametrize(
    "another",
    [
        pytest.param(lambda: name(READY, CRASHED, generation=2), id="another version of the model"),
        pytest.param(
            lambda: name(READY, status(ModelState.FAILED, Reason.OUT_OF_MEMORY)), id="another reason"
        ),
        pytest.param(lambda: name(READY, CRASHED, key=Key("search", "other")), id="another model"),
    ],
)
def test_what_is_news_has_a_name_of_its_own(another: Any) -> None:
    assert another() != name(READY, CRASHED)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("x" * 5000, id="a byte a character"),
        pytest.param("大熊猫。" * 1000, id="three bytes a character"),
        pytest.param("\N{PANDA FACE}" * 500, id="four bytes a character"),
    ],
)
def test_an_event_is_no_longer_than_an_api_server_takes(message: str) -> None:
    key = Key("search", "a" * 63)
    found = told(NEVER, status(ModelState.FAILED, Reason.CRASHED, message), key=key, instance="i" * 300)
    assert found is not None
    assert 1000 < len(found["note"].encode()) <= 1024
    assert len(found["reportingInstance"]) == 128
    assert re.fullmatch("[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", found["metadata"]["name"])
