"""On the paths of other APIs, what Envoy itself refuses is in their shapes, which their clients parse."""

import json
from typing import Any

import pytest

from rerank_api.error_shapes import REGIONS, Region

LIMIT = 10 * 1024 * 1024
PATHS = [pytest.param(region, path, id=path) for region in REGIONS for path in region.paths]
FIELDS = {"cohere": ["message"], "voyage": ["detail"], "tei": ["error", "error_type"]}


def sentence_of(region: Region, reply: Any) -> str:
    """Return an error's sentence, and hold the rest against the region's shape."""
    body = json.loads(reply.body)
    assert list(body) == FIELDS[region.name]
    assert reply.headers["content-type"] == "application/json"
    return str(body[FIELDS[region.name][0]])


@pytest.mark.parametrize(
    ("model", "statuses", "says"),
    [
        pytest.param("none", {"cohere": 404, "voyage": 400, "tei": 404}, "no model `none`", id="unknown"),
        pytest.param("idle", dict.fromkeys(FIELDS, 503), "no ready replica", id="no replica"),
        pytest.param("killer", dict.fromkeys(FIELDS, 503), "failed before", id="the replica hangs up"),
        pytest.param("a b", dict.fromkeys(FIELDS, 400), "cannot be a model's name", id="no name"),
    ],
)
@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_model_that_cannot_answer_is_told_in_the_shape_of_the_path(
    gateway: Any, region: Region, path: str, model: str, statuses: dict[str, int], says: str
) -> None:
    reply = gateway.caller.post(path, json.dumps({"model": model}).encode())
    assert reply.status == statuses[region.name]
    assert says in sentence_of(region, reply)
    assert (reply.headers["retry-after"] is not None) is (model == "idle")


@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_model_that_does_not_answer_in_time_is_told_in_the_shape_of_the_path(
    impatient: Any, region: Region, path: str
) -> None:
    reply = impatient.caller.post(path, json.dumps({"model": "slow"}).encode())
    assert reply.status == 504
    assert "did not answer" in sentence_of(region, reply)
    assert reply.headers["retry-after"] is None


@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_model_in_the_path_changes_nothing_about_the_shape(gateway: Any, region: Region, path: str) -> None:
    reply = gateway.caller.post(f"/model/proxy/idle{path}?x=1", b"{}")
    assert reply.status == 503
    assert "no ready replica" in sentence_of(region, reply)


@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_path_without_a_name_is_refused_in_the_shape_of_the_rest(
    caller: Any, region: Region, path: str
) -> None:
    reply = caller.post(f"/model/proxy/a%20b{path}", b"{}")
    assert reply.status == 400
    assert "does not hold a model's name" in sentence_of(region, reply)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        pytest.param(b"", 400, "no body", id="no body"),
        pytest.param(b"{", 400, "at byte 1", id="no JSON"),
        pytest.param(b"{}", 400, "names no model", id="no model"),
        pytest.param(b" " * (LIMIT + 1), 413, str(LIMIT), id="too large"),
    ],
)
@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_broken_body_is_refused_in_the_shape_of_the_path(
    caller: Any, region: Region, path: str, body: bytes, status: int, says: str
) -> None:
    reply = caller.post(path, body)
    assert reply.status == status
    assert says in sentence_of(region, reply)


@pytest.mark.parametrize("where", ["{}", "/model/proxy/echo{}"], ids=["body", "path"])
@pytest.mark.parametrize(("region", "path"), PATHS)
def test_a_compressed_body_is_a_415_in_the_shape_of_the_path(
    caller: Any, region: Region, path: str, where: str
) -> None:
    reply = caller.post(where.format(path), b"{}", (("content-encoding", "gzip"),))
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "identity")
    assert "send it uncompressed" in sentence_of(region, reply)


@pytest.mark.parametrize(("region", "path"), PATHS)
def test_another_method_is_refused_in_the_shape_of_the_path(caller: Any, region: Region, path: str) -> None:
    reply = caller.ask("GET", path)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert "Only POST" in sentence_of(region, reply)


@pytest.mark.parametrize("region", REGIONS, ids=[region.name for region in REGIONS])
def test_an_unknown_path_below_a_prefix_is_refused_in_its_shape(caller: Any, region: Region) -> None:
    reply = caller.post(f"{region.prefix}v9/nothing", b"{}")
    assert reply.status == 404
    assert "There is nothing" in sentence_of(region, reply)
