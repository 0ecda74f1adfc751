"""The last test: the operator goes first, the models after it, and nothing is stranded."""

from tests.cluster.harness.kube import BUILT, Kube, eventually
from tests.cluster.harness.release import NAMESPACE, Release


def test_models_that_are_deleted_after_the_operator_leave_nothing(models: Kube, release: Release) -> None:
    assert models.all(BUILT, "rerank.dev/model") != []
    release.uninstall()
    left = models.cluster.kubectl("get", "all,leases", "--namespace", NAMESPACE, "--output", "name").split()
    assert [name for name in left if "lease" not in name] == []
    assert models.all("deployments", "rerank.dev/model") != []  # servers go on without their operator
    models("delete", "rerankmodels", "--all", "--timeout=60s")
    eventually(
        lambda: models.all(BUILT, "rerank.dev/model") == [], "what was built for them to go", seconds=120
    )
    models.cluster.kubectl(
        "delete", "crd", "rerankmodels.rerank.dev", "rerankconsumers.rerank.dev", "--timeout=60s"
    )
    models.cluster.kubectl("delete", "namespace", NAMESPACE, models.namespace, "--timeout=180s")
