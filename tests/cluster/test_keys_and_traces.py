"""Keys in a cluster: with the chart's default all are asked for one, and RerankConsumers say who has them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerank_api.keys import digest_of, encoded, make_key
from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import Release
from tests.cluster.harness.traffic import PANDA, ROUND, Door
from tests.cluster.onenode.cluster import OneNode

MODEL = quickstart()["metadata"]["name"]
RERANK = Path(sys.executable).with_name("rerank")


@pytest.fixture(scope="module")
def keyed(release: Release, models: Kube) -> Iterator[Door]:
    """The gateway while it asks for keys; all other tests have one that does not."""
    release.install("--set", "gateway.auth.enabled=true")
    yield release.door
    release.install()


def secret(*keys: str) -> dict[str, Any]:
    data = {f"key-{number}": encoded(digest_of(key)) for number, key in enumerate(keys)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "search"}, "data": data}


def consumer(*models: str, **limits: int) -> dict[str, Any]:
    spec = {"keySecret": {"name": "search"}, "models": list(models), **({"limits": limits} if limits else {})}
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankConsumer",
        "metadata": {"name": "search"},
        "spec": spec,
    }


def statuses(door: Door, key: str | None) -> set[int]:
    """Return the statuses that every gateway answers with; each hears of a key by itself."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    body = {**PANDA, "model": MODEL}
    with door.client() as client:
        answers = [client.post("/v1/rerank", json=body, headers=headers) for _ in range(ROUND)]
    return {answer.status_code for answer in answers}


def becomes(door: Door, key: str, wanted: int) -> None:
    eventually(
        lambda: statuses(door, key) == {wanted},
        f"the key to be answered with {wanted}",
        lambda: sorted(statuses(door, key)),
    )


def test_a_consumer_calls_with_its_keys_alone_and_only_what_it_is_granted(keyed: Door, system: Kube) -> None:
    old, new = make_key(), make_key()
    assert statuses(keyed, None) == {401}
    try:
        system.apply(secret(old))
        system.apply(consumer("another-model"))
        becomes(keyed, old, 403)
        system.apply(consumer(MODEL))
        becomes(keyed, old, 200)
        assert statuses(keyed, None) == {401}
        system.apply(secret(old, new))
        becomes(keyed, new, 200)
        assert statuses(keyed, old) == {200}
        system.apply(secret(new, new))
        becomes(keyed, old, 401)
        assert statuses(keyed, new) == {200}
    finally:
        for kind in ("rerankconsumer", "secret"):
            system("delete", kind, "search", "--ignore-not-found")
    becomes(keyed, new, 401)


def test_what_one_gateway_lets_in_counts_at_the_other(
    keyed: Door, system: Kube, own_cluster: OneNode
) -> None:
    key, limit, few = make_key(), 40, 8
    pods = system.all("pods", "app.kubernetes.io/component=gateway")
    one, other = (Door(f"{pod['status']['podIP']}:8080", keyed.host) for pod in pods)
    system.apply(secret(key), consumer(MODEL, requestsPerMinute=limit))
    try:
        becomes(one, key, 200)
        becomes(other, key, 200)
        eventually(lambda: statuses(one, key) == {429}, "the one gateway to refuse")
        # So few are not enough for its own bucket to be empty: it was told.
        with other.client() as client:
            for _ in range(few):
                answer = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
                if answer.status_code == 429:
                    break
                time.sleep(0.5)
        assert answer.status_code == 429, answer.text
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        for kind in ("rerankconsumer", "secret"):
            system("delete", kind, "search", "--ignore-not-found")


def test_the_commands_make_keys_that_count_and_take_them_away(keyed: Door, system: Kube) -> None:
    def key(*words: str) -> str:
        where = ("--kubernetes", "--namespace", system.namespace)
        environment = {**os.environ, "KUBECONFIG": str(system.cluster.kubeconfig)}
        done = subprocess.run(
            [RERANK, "key", *words, *where], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    old = key("create", "by-command", "--model", MODEL)
    try:
        becomes(keyed, old, 200)
        new = key("rotate", "by-command")
        becomes(keyed, new, 200)
        assert statuses(keyed, old) == {200}
        key("revoke", "by-command", "--older")
        becomes(keyed, old, 401)
        assert statuses(keyed, new) == {200}
    finally:
        key("revoke", "by-command")
    becomes(keyed, new, 401)
    assert system.find("secret", "by-command") is None
