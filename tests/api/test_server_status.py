"""A server's status, read by programs that may be older than the server."""

import json

import pytest
from pydantic import ValidationError

from rerank_api.score_scale import ScoreScale
from rerank_api.status import ServerState, ServerStatus

TOLD = {"state": "failed", "message": "m", "failedIn": "loading", "scoreScale": "cosine", "maxLength": 512}


def test_what_is_known_is_read() -> None:
    read = ServerStatus.model_validate_json(json.dumps(TOLD))
    assert (read.failed_in, read.score_scale) == (ServerState.LOADING, ScoreScale.COSINE)
    assert ServerStatus.model_validate_json(read.model_dump_json(by_alias=True)) == read


@pytest.mark.parametrize(
    ("field", "attribute"), [("scoreScale", "score_scale"), ("failedIn", "failed_in"), ("other", None)]
)
def test_a_newer_servers_word_is_none_and_the_rest_counts(field: str, attribute: str | None) -> None:
    read = ServerStatus.model_validate_json(json.dumps({**TOLD, field: "of-tomorrow"}))
    expected = ServerStatus.model_validate_json(json.dumps(TOLD))
    assert read == (expected if attribute is None else expected.model_copy(update={attribute: None}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("state", "of-tomorrow", id="a state that says nothing here"),
        pytest.param("scoreScale", 7, id="no word at all"),
        pytest.param("maxLength", "many", id="no number"),
    ],
)
def test_what_makes_no_sense_is_not_read(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        ServerStatus.model_validate_json(json.dumps({**TOLD, field: value}))


@pytest.mark.parametrize("field", ["score_scale", "failed_in"])
def test_a_word_that_does_not_exist_is_not_written(field: str) -> None:
    with pytest.raises(ValidationError):
        ServerStatus.model_validate({"state": ServerState.READY, "message": "m", field: "of-tomorrow"})
