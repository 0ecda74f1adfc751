"""The gateway's other replicas, as the EndpointSlices of its own Service have them."""

import asyncio
import contextlib
import json

import pytest

from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.objects import UnreadableError
from rerank_gateway.kubernetes.peers import KubernetesPeers
from rerank_gateway.kubernetes.reflector import Pace
from rerank_gateway.models import Endpoint

pytestmark = pytest.mark.anyio

COUNTS = [{"name": "counts", "port": 9902, "protocol": "TCP"}]
ONE, TWO, SIX = Endpoint("10.0.0.1", 9902), Endpoint("10.0.0.2", 9902), Endpoint("fd00::1", 9902)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("addresses", "fields", "expected"),
    [
        pytest.param(["10.0.0.1", "10.0.0.2"], {}, (ONE, TWO), id="two"),
        pytest.param(["fd00::1"], {}, (SIX,), id="IPv6"),
        pytest.param(
            ["10.0.0.1"], {"conditions": {"ready": False, "terminating": True}}, (ONE,), id="one that goes"
        ),
        pytest.param(["10.0.0.1"], {"ports": [{"name": "http", "port": 8080}]}, None, id="not asked there"),
        pytest.param(["a.example"], {"addressType": "FQDN"}, None, id="no addresses"),
        pytest.param([], {}, (), id="none"),
    ],
)
def test_every_replica_counts_whatever_its_state(endpoint_slice, addresses, fields, expected):
    raw = endpoint_slice("gw-1", *addresses, **({"ports": COUNTS} | fields))
    assert objects.peer_slice(raw) == expected


def test_an_address_that_is_none_is_told(endpoint_slice):
    with pytest.raises(UnreadableError, match="is not an IP address"):
        objects.peer_slice(endpoint_slice("gw-1", "localhost", ports=COUNTS))


class Cluster:
    """Answers with one list, and then with what a watch tells."""

    def __init__(self, *listed):
        self.asked = []
        self.told = asyncio.Queue()
        self._listed = listed

    @contextlib.asynccontextmanager
    async def get(self, path, query, limit_s):
        self.asked.append((path, query["labelSelector"]))
        yield self._parts(query)

    async def _parts(self, query):
        if "watch" not in query:
            listed = {"metadata": {"resourceVersion": "1"}, "items": self._listed}
            yield json.dumps(listed).encode()
            return
        while True:
            yield json.dumps(await self.told.get()).encode() + b"\n"


async def test_replicas_that_come_and_go_are_followed_in_one_service(endpoint_slice):
    slices = {
        name: endpoint_slice(name, *addresses, ports=COUNTS)
        for name, addresses in {"a": ["10.0.0.1"], "b": ["10.0.0.2", "10.0.0.1"]}.items()
    }
    cluster = Cluster(slices["a"])
    source = KubernetesPeers(cluster, "rerank", "rerank-gateway-all", Pace(first_pause_s=0.01))
    async with contextlib.aclosing(source.peers()) as peers:

        async def told():
            return await asyncio.wait_for(anext(peers), 120)

        assert await told() == {ONE}
        await cluster.told.put({"type": "ADDED", "object": slices["b"]})
        assert await told() == {ONE, TWO}
        await cluster.told.put({"type": "DELETED", "object": slices["a"]})
        assert await told() == {ONE, TWO}
        await cluster.told.put({"type": "DELETED", "object": slices["b"]})
        assert await told() == frozenset()
    assert set(cluster.asked) == {
        (
            "/apis/discovery.k8s.io/v1/namespaces/rerank/endpointslices",
            "kubernetes.io/service-name=rerank-gateway-all",
        )
    }
