"""`GET /v1/models` as the agent answers it."""

import dataclasses

import httpx
import pytest

from rerank_api.status import ModelState
from rerank_gateway import listing, snapshot
from rerank_gateway.bounds import RETRY_AFTER_S
from rerank_gateway.models import Consumer, Facts, View
from rerank_gateway.publication import Publication

pytestmark = pytest.mark.anyio


@pytest.fixture
def publication() -> Publication:
    return Publication()


@pytest.fixture
def ask(publication):
    """Ask the app without a socket between."""
    app = listing.app(publication, lambda name: name != "on its way")

    async def send(path, method="GET", consumer=None):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(verify=False, transport=transport, base_url="http://agent") as client:
            headers = {} if consumer is None else {"x-rerank-consumer": consumer}
            return await client.request(method, path, headers=headers)

    return send


async def test_models_are_listed_by_name_with_their_state(publication, ask, served):
    loading = dataclasses.replace(
        served("b", model="bee", created=7), state=ModelState.LOADING, message="reading", progress=0.43
    )
    known = Facts("embedding", 256, "cosine")
    ready = [served(name, 9000, model="a", facts=known) for name in ("a", "BAAI/a")]
    publication.publish(snapshot.build(View((loading, *ready))))
    response = await ask("/v1/models")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "object": "list",
        "data": [
            *(
                {
                    "id": name,
                    "object": "model",
                    "created": 1,
                    "owned_by": "a",
                    "names": ["BAAI/a", "a"],
                    "state": "Ready",
                    "message": "ready",
                    "family": "embedding",
                    "max_model_len": 256,
                    "score_scale": "cosine",
                }
                for name in ("BAAI/a", "a")
            ),
            {
                "id": "b",
                "object": "model",
                "created": 7,
                "owned_by": "bee",
                "names": ["b"],
                "state": "Loading",
                "message": "reading",
                "progress": 0.43,
            },
        ],
    }
    for model in response.json()["data"]:
        assert (await ask(f"/v1/models/{model['id']}")).json() == model


async def test_a_consumer_is_told_of_the_names_that_it_may_call_alone(publication, ask, served):
    models = [served(name, model="bge") for name in ("bge", "secret-project", "bge-2")]
    consumers = (Consumer("search", (), ("bge", "bge-2")),)
    publication.publish(snapshot.build(View(tuple(models), consumers)))
    answer = await ask("/v1/models", consumer="search")
    assert [model["names"] for model in answer.json()["data"]] == [["bge", "bge-2"]] * 2
    assert "secret" not in answer.text
    assert (await ask("/v1/models/bge", consumer="search")).json()["names"] == ["bge", "bge-2"]


async def test_a_model_that_the_gateway_takes_up_has_no_progress(publication, ask, served):
    replaced = served("on its way", message="its replacement loads", progress=0.5)
    publication.publish(snapshot.build(View((replaced,))))
    listed = (await ask("/v1/models/on its way")).json()
    assert (listed["state"], "progress" in listed) == ("Loading", False)


@pytest.mark.parametrize("path", ["BAAI/bge-v2:x@1", "BAAI%2Fbge-v2%3Ax%401"], ids=["plain", "escaped"])
async def test_a_model_is_found_by_a_name_with_slashes(publication, ask, served, path):
    publication.publish(snapshot.build(View((served("BAAI/bge-v2:x@1"),))))
    response = await ask(f"/v1/models/{path}")
    assert (response.status_code, response.json()["id"]) == (200, "BAAI/bge-v2:x@1")


async def test_a_ready_model_is_listed_as_ready_once_requests_arrive_there(publication, ask, served):
    publication.publish(snapshot.build(View((served("a"), served("on its way")))))
    listed = {model["id"]: model["state"] for model in (await ask("/v1/models")).json()["data"]}
    assert listed == {"a": "Ready", "on its way": "Loading"}
    assert (await ask("/v1/models/on its way")).json()["state"] == "Loading"


@pytest.mark.parametrize(
    ("consumer", "names"),
    [
        pytest.param("rag/search", ["b"], id="what is granted and is there"),
        pytest.param("all", ["a", "b"], id="all"),
        pytest.param("gone", [], id="a consumer that is no more"),
        pytest.param(None, ["a", "b"], id="who asks without Envoy between"),
    ],
)
async def test_a_consumer_sees_the_models_that_it_may_call(publication, ask, served, consumer, names):
    consumers = (Consumer("rag/search", (), ("b", "c")), Consumer("all", (), ("*",)))
    publication.publish(snapshot.build(View((served("a"), served("b")), consumers)))
    listed = (await ask("/v1/models", consumer=consumer)).json()["data"]
    assert [model["id"] for model in listed] == names
    for name in ("a", "b"):
        status = (await ask(f"/v1/models/{name}", consumer=consumer)).status_code
        assert status == (200 if name in names else 404)


async def test_a_later_view_is_listed_at_once(publication, ask, served):
    publication.publish(snapshot.build(View((served("a"),))))
    assert (await ask("/v1/models/b")).status_code == 404
    publication.publish(snapshot.build(View((served("b"),))))
    assert (await ask("/v1/models/b")).status_code == 200
    assert (await ask("/v1/models/a")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/v1/models/no/such", 404, "model_not_found", id="an unknown model"),
        pytest.param("GET", "/v1/nothing", 404, "not_found", id="an unknown path"),
        pytest.param("POST", "/v1/models", 405, "method_not_allowed", id="another method"),
    ],
)
async def test_what_is_not_there_is_answered_in_the_one_error_body(
    publication, ask, method, path, status, code
):
    publication.publish(snapshot.build(View()))
    response = await ask(path, method)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "code", "param"}
    assert response.json()["error"]["code"] == code


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/a"])
async def test_before_the_first_view_the_caller_is_told_to_come_back(ask, path):
    response = await ask(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == str(RETRY_AFTER_S)
    assert response.json()["error"]["code"] == "gateway_starting"
