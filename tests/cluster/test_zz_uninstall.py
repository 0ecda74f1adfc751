"""The last test: the operator goes first, the models after it, and nothing is stranded."""

from tests.cluster.harness.kube import BUILT, Kube, eventually
from tests.cluster.harness.release import NAMESPACE, Release
from tests.cluster.onenode.cluster import Cluster


def test_models_that_are_deleted_after_the_operator_leave_nothing(models: Kube, release: Release) -> None:
    assert models.all(BUILT, "rerank.dev/model") != []
    release.uninstall()
    # Gateways take some seconds to end, for load balancers to notice.
    eventually(
        lambda: _left(models.cluster) == [],
        "all of the release to go",
        else_show=lambda: _standing(models.cluster),
        seconds=600,
    )
    assert models.all("deployments", "rerank.dev/model") != []  # servers go on without their operator
    models("delete", "rerankmodels", "--all", "--timeout=600s")
    eventually(
        lambda: models.all(BUILT, "rerank.dev/model") == [], "what was built for them to go", seconds=600
    )
    models.cluster.kubectl(
        "delete", "crd", "rerankmodels.rerank.dev", "rerankconsumers.rerank.dev", "--timeout=600s"
    )
    models.cluster.kubectl("delete", "namespace", NAMESPACE, models.namespace, "--timeout=600s")


def _left(cluster: Cluster) -> list[str]:
    return cluster.kubectl("get", "all,ingresses", "--namespace", NAMESPACE, "--output", "name").split()


def _standing(cluster: Cluster) -> list[str]:
    """Return what there is still, how it stands, and what was said of it."""
    about = ("--namespace", NAMESPACE)
    described = cluster.kubectl("describe", "all,ingresses,endpointslices", *about)
    logs = cluster.kubectl(
        "logs", *about, "--selector", "app.kubernetes.io/instance=rerank", "--all-containers", "--prefix",
        "--ignore-errors", "--tail", "40",
    )  # fmt: skip
    return [*described.splitlines(), *logs.splitlines()]
