"""Keys in a cluster: with the chart's default all are asked for one, and RerankConsumers say who has them."""

from collections.abc import Iterator
from typing import Any

import pytest

from rerank_api.keys import digest_of, encoded, make_key
from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import Release
from tests.cluster.harness.traffic import PANDA, ROUND, Door

MODEL = quickstart()["metadata"]["name"]


@pytest.fixture
def keyed(release: Release, models: Kube) -> Iterator[Door]:
    """The gateway while it asks for keys; all other tests have one that does not."""
    release.install("--set", "gateway.auth.enabled=true")
    yield release.door
    release.install()


def secret(*keys: str) -> dict[str, Any]:
    data = {f"key-{number}": encoded(digest_of(key)) for number, key in enumerate(keys)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "search"}, "data": data}


def consumer(*models: str) -> dict[str, Any]:
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankConsumer",
        "metadata": {"name": "search"},
        "spec": {"keySecret": {"name": "search"}, "models": list(models)},
    }


def test_a_consumer_calls_with_its_keys_alone_and_only_what_it_is_granted(keyed: Door, system: Kube) -> None:
    old, new = make_key(), make_key()

    def statuses(key: str | None) -> set[int]:
        """Return the statuses that every gateway answers with; each hears of a key by itself."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        body = {**PANDA, "model": MODEL}
        with keyed.client() as client:
            answers = [client.post("/v1/rerank", json=body, headers=headers) for _ in range(ROUND)]
        return {answer.status_code for answer in answers}

    def becomes(key: str, wanted: int) -> None:
        eventually(
            lambda: statuses(key) == {wanted},
            f"the key to be answered with {wanted}",
            lambda: sorted(statuses(key)),
        )

    assert statuses(None) == {401}
    try:
        system.apply(secret(old))
        system.apply(consumer("another-model"))
        becomes(old, 403)
        system.apply(consumer(MODEL))
        becomes(old, 200)
        assert statuses(None) == {401}
        system.apply(secret(old, new))
        becomes(new, 200)
        assert statuses(old) == {200}
        system.apply(secret(new, new))
        becomes(old, 401)
        assert statuses(new) == {200}
    finally:
        for kind in ("rerankconsumer", "secret"):
            system("delete", kind, "search", "--ignore-not-found")
    becomes(new, 401)
