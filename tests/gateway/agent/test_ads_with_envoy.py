"""The ADS server in this process beside a real Envoy: what no state file can say."""

import dataclasses
import logging
from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration

from rerank_gateway import resources, snapshot
from rerank_gateway.ads import AdsServer
from rerank_gateway.models import View
from rerank_gateway.publication import Publication
from rerank_gateway.snapshot import Resource, Snapshot

pytestmark = pytest.mark.anyio


@pytest.fixture
def publication() -> Publication:
    return Publication()


@pytest.fixture
async def ads(publication, socket_dir) -> AsyncIterator[AdsServer]:
    server = AdsServer(publication)
    await server.start(socket_dir / "ads.sock")
    yield server
    await server.stop()


def replaced(world: Snapshot, type_url: str, name: str, version: str, body: bytes) -> Snapshot:
    """The same world with one resource's content replaced."""
    of_type = {**world.resources[type_url], name: Resource(version, body)}
    return dataclasses.replace(world, resources={**world.resources, type_url: of_type})


def bad_cluster(name: str) -> bytes:
    """A cluster that Envoy's own validation refuses."""
    cluster = resources.cluster_pb2.Cluster(name=name, connect_timeout=Duration(seconds=-1))
    return cluster.SerializeToString()


def bad_assignment(name: str) -> bytes:
    """Endpoints at a host name, which an EDS cluster does not look up."""
    assignment = resources.endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    socket_address = assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    socket_address.address, socket_address.port_value = "not-an-address", 80
    return assignment.SerializeToString()


@pytest.mark.parametrize(
    ("type_url", "build"),
    [
        pytest.param(resources.CLUSTER_TYPE, bad_cluster, id="a cluster"),
        pytest.param(resources.LOAD_ASSIGNMENT_TYPE, bad_assignment, id="endpoints"),
    ],
)
async def test_a_resource_that_envoy_refuses_is_logged_once_and_the_others_apply(
    ads, publication, envoy, replica, served, caplog, until, type_url, build
):
    only = await replica("only")
    caplog.set_level(logging.ERROR)
    first = snapshot.build(View((served("steady", only.port),)))
    publication.publish(first)
    await envoy.start()
    await envoy.answers("steady", "only")

    names = [f"n{i}" for i in range(20)]
    world = snapshot.build(View((served("steady", only.port), *(served(name, only.port) for name in names))))
    publication.publish(replaced(world, type_url, "m/n7", "bad", build("m/n7")))

    for name in names:
        if name != "n7":
            await envoy.answers(name, "only")

    async def noted():
        return ads.refused[type_url]

    await until(noted, "the refusal")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "'m/n7'" in caplog.text
    assert ("not-an-address" if build is bad_assignment else "Invalid duration") in caplog.text

    publication.publish(world)
    await envoy.answers("n7", "only")
    assert len(caplog.records) == 1


async def test_a_changed_cluster_is_effective_without_waiting_for_a_timeout(
    ads, publication, envoy, replica, served, until
):
    only = await replica("only")
    world = snapshot.build(View((served("a", only.port),)))
    publication.publish(world)
    await envoy.start()
    await envoy.answers("a", "only")

    changed = resources.cluster("m/a")
    changed.connect_timeout.seconds = 3
    body = changed.SerializeToString(deterministic=True)
    publication.publish(replaced(world, resources.CLUSTER_TYPE, "m/a", "new", body))

    async def warm():
        dump = (await envoy.ask("/config_dump?resource=dynamic_active_clusters")).json()
        return "3s" in {cluster["cluster"]["connect_timeout"] for cluster in dump["configs"]}

    await until(warm, "the changed cluster to be in use")
    assert await envoy.stat("cluster.a-.*init_fetch_timeout") == 0, "Envoy waited for endpoints in vain"
    await envoy.answers("a", "only")
    assert ads.refused.total() == 0


async def test_a_cluster_that_changed_while_the_agent_was_away_is_effective_too(
    publication, socket_dir, envoy, replica, served, until
):
    only = await replica("only")
    world = snapshot.build(View((served("a", only.port),)))
    publication.publish(world)
    before = AdsServer(publication)
    await before.start(socket_dir / "ads.sock")
    await envoy.start()
    await envoy.answers("a", "only")
    await before.stop()

    changed = resources.cluster("m/a")
    changed.connect_timeout.seconds = 3
    body = changed.SerializeToString(deterministic=True)
    publication.publish(replaced(world, resources.CLUSTER_TYPE, "m/a", "new", body))
    after = AdsServer(publication)
    await after.start(socket_dir / "ads.sock")

    async def warm():
        dump = (await envoy.ask("/config_dump?resource=dynamic_active_clusters")).json()
        return "3s" in {cluster["cluster"]["connect_timeout"] for cluster in dump["configs"]}

    await until(warm, "the changed cluster to be in use")
    assert await envoy.stat("cluster.a-.*init_fetch_timeout") == 0, "Envoy waited for endpoints in vain"
    await after.stop()


async def test_names_of_one_model_are_effective_without_waiting_for_a_timeout(
    ads, publication, envoy, replica, served
):
    first, second = await replica("first"), await replica("second")
    publication.publish(snapshot.build(View((served("a", first.port, model="rag/m"),))))
    await envoy.start()
    await envoy.answers("a", "first")

    for only in (first, second):
        named = (served(name, only.port, model="rag/m", hosts=("m.test",)) for name in "abc")
        publication.publish(snapshot.build(View(tuple(named))))
        for name in "abc":
            await envoy.answers(name, only.name)

    waited = (await envoy.ask("/stats?filter=^cluster.(host_)?[abcm][-_].*init_fetch_timeout$")).text
    assert [line.rpartition(": ")[2] for line in waited.splitlines()] == ["0"] * 4, (
        f"Envoy waited for endpoints in vain: {waited}"
    )


async def test_endpoints_are_taken_once_envoy_has_acknowledged_the_newest_and_not_without_an_envoy(
    ads, publication, envoy, served, until
):
    async def taken():
        return ads.is_taken("m/a")

    publication.publish(snapshot.build(View((served("a", from_zero=True),))))
    assert not await taken()
    await envoy.start()
    await until(taken, "Envoy to have the endpoints")

    publication.publish(snapshot.build(View((served("a", 9000, from_zero=True),))))
    assert not await taken(), "what Envoy acknowledged were the endpoints before"
    await until(taken, "Envoy to have the new endpoints")
    assert ":9000::" in (await envoy.ask("/clusters")).text
