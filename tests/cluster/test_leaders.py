"""Two operators: one leads, and the other takes over."""

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import model

OPERATORS = "app.kubernetes.io/component=operator"


def test_when_the_leader_is_killed_the_other_operator_takes_over(kube: Kube, system: Kube) -> None:
    system("scale", "deployment", "rerank-operator", "--replicas", "2")
    try:
        system("rollout", "status", "deployment/rerank-operator", "--timeout=600s")
        pods = [pod["metadata"] for pod in system.all("pods", OPERATORS)]
        names = {pod["name"] for pod in pods if "deletionTimestamp" not in pod}
        leader = eventually(lambda: _only_leader(system, names), "one of them to lead, and no other")

        system("delete", "pod", leader, "--grace-period=0", "--force")
        # The other one, or the one that the Deployment starts in the dead one's stead: who asks first.
        heir = eventually(lambda: _holder(system, but=leader), "another to take over")
        assert heir.startswith("rerank-operator-")
        kube.apply(model("of-the-second", replicas=0))
        kube.says("of-the-second", "ScaledToZero")
    finally:
        system("scale", "deployment", "rerank-operator", "--replicas", "1")


def _only_leader(system: Kube, candidates: set[str]) -> str | None:
    """Return who has the Lease, where nobody else says to lead; one that has lost it has said so."""
    holder = _holder(system)
    logs = [system("logs", other) for other in candidates - {holder}]
    leads = [log.count(" leads\n") - log.count(" does not lead any more") for log in logs]
    return holder if holder in candidates and leads == [0] else None


def _holder(system: Kube, but: str = "") -> str | None:
    lease = system.find("lease", "rerank-operator") or {"spec": {}}
    holder = str(lease["spec"].get("holderIdentity") or "")
    return None if holder in {"", but} else holder
