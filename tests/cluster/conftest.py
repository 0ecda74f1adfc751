"""A cluster with the chart installed, and a namespace of its own for each test."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import NAMESPACE, Release
from tests.cluster.harness.traffic import Door
from tests.cluster.onenode.cluster import Cluster, OneNode, find

MODELS_CRD = "rerankmodels.rerank.dev"
MODELS_NAMESPACE = "rerank-test-models"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that `make cluster` started, or that KUBECONFIG names."""
    found = find()
    if found is None:
        pytest.fail("No cluster runs: start one with `make cluster`, or set KUBECONFIG to one of yours.")
    return found


@pytest.fixture(scope="session")
def own_cluster(cluster: Cluster) -> OneNode:
    """The cluster whose parts a test may stop."""
    if not isinstance(cluster, OneNode):
        pytest.skip("KUBECONFIG names a cluster that is not the tests' own, so its parts are not stopped")
    return cluster


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """The chart, installed. It stays until the last test removes it, and where that is not run."""
    if not isinstance(cluster, OneNode) and cluster.kubectl("get", "crd", MODELS_CRD, "--ignore-not-found"):
        pytest.fail(
            "The cluster of KUBECONFIG knows RerankModels already, and the tests remove them all in the end: "
            "name one that does not."
        )
    release = Release(cluster)
    release.install()
    return release


@pytest.fixture(scope="session")
def door(release: Release) -> Door:
    """The gateway through the Ingress, which takes a moment to hear of it."""
    eventually(lambda: release.door.models() is not None, "the gateway to answer through the Ingress")
    return release.door


@pytest.fixture(scope="session")
def system(release: Release) -> Kube:
    """The namespace of operator and gateway."""
    return Kube(release.cluster, NAMESPACE)


@pytest.fixture
def kube(release: Release, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace of the test's own; nothing may be stuck in it at the end."""
    with _namespace(release, request) as kube:
        yield kube


@pytest.fixture(scope="module")
def shared_kube(release: Release, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace that all tests of a module share."""
    with _namespace(release, request) as kube:
        yield kube


@contextmanager
def _namespace(release: Release, request: pytest.FixtureRequest) -> Iterator[Kube]:
    words = re.sub("[^a-z]+", "-", Path(request.node.name.lower()).stem)[:30].strip("-")
    kube = Kube(release.cluster, f"{words}-{uuid.uuid4().hex[:4]}")
    kube.create()
    yield kube
    kube("delete", "rerankmodels", "--all", "--wait=false")  # not left to the namespace, which waits for pods
    release.cluster.kubectl("delete", "namespace", kube.namespace, "--wait=false")


@pytest.fixture(scope="session")
def models(release: Release) -> Kube:
    """The namespace in which the quickstart's model runs for as long as the tests do."""
    kube = Kube(release.cluster, MODELS_NAMESPACE)
    if release.cluster.kubectl("get", "namespace", MODELS_NAMESPACE, "--ignore-not-found") == "":
        kube.create()
    kube.apply(quickstart())
    name = quickstart()["metadata"]["name"]
    kube.ready(name)
    eventually(
        lambda: all(told.get(name, {}).get("state") == "Ready" for told in release.door.lists()),
        "every gateway to know it",
    )
    return kube
