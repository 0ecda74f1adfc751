"""What was seen of a model, to be told in a status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rerank_api.name_sharing import Claim
from rerank_api.names import seniority
from rerank_api.rerank_model import Condition, RerankModelStatus
from rerank_api.status import ConditionType, ServerState, ServerStatus, Verification
from rerank_operator.accept import accept
from rerank_operator.keys import Key
from rerank_operator.observed import Words, observe
from rerank_operator.pods import Obstacle
from rerank_operator.settings import Settings
from rerank_operator.status import Seen, status_for
from rerank_operator.world import claim_of
from tests.operator.given import CURRENT, KEY, NOW, Manifest, model, pending, pod, settings

SCORES = Verification(checked=12, max_deviation=0.00123, passed=True)
WRONG = Verification(checked=12, max_deviation=0.9, passed=False)
OTHER = Key("search", "older")


def says(state: ServerState, message: str = "As the server says", **fields: Any) -> ServerStatus:
    return ServerStatus(state=state, message=message, **fields)


READY = says(ServerState.READY, verification=SCORES, engine="padded-cpu", revision="main-1")
LOADING = says(ServerState.LOADING, "Loading content-1")
STOPPED = {"exitCode": 1, "reason": "Error", "message": "Traceback:\n  ...\nValueError: no such family\n\n"}
PAUSES = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}


def claim(key: Key, weight: int | None = None) -> Claim:
    return Claim(seniority("", *key), *key, weight)


@dataclass(frozen=True)
class Situation:
    """What was seen of a model that wants `replicas`."""

    pods: tuple[Manifest, ...] = ()
    reports: Mapping[str, ServerStatus] = field(default_factory=dict)
    """By the pods' names."""
    replicas: int = 1
    warnings: Mapping[str, str] = field(default_factory=dict)
    deployment: Mapping[str, Any] | None = field(default_factory=dict)
    """Its status."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    holders: Mapping[str, Key | tuple[Claim, ...]] = field(default_factory=lambda: {KEY.name: KEY})
    names: tuple[str, ...] = (KEY.name,)
    obstacle: Obstacle | None = None
    host_holder: Key | None = None
    before: RerankModelStatus = field(default_factory=RerankModelStatus)
    generation: int = 1
    settings: Settings = field(default_factory=settings)

    def status(self, later: timedelta = timedelta()) -> RerankModelStatus:
        """Return the status that is written."""
        raw = model(replicas=self.replicas, **self.spec)
        lives = {pod.name: pod.life for pod in observe(None, self.pods, CURRENT).pods}
        words = Words(
            {lives[name]: report for name, report in self.reports.items()},
            {f"uid of {name}": warning for name, warning in self.warnings.items()},
        )
        seen = Seen(
            key=KEY,
            generation=self.generation,
            verdict=accept(raw, self.settings),
            names=self.names,
            claim=claim_of(raw),
            holders={
                name: held if type(held) is tuple else (claim(held),) for name, held in self.holders.items()
            },
            observed=observe(
                None if self.deployment is None else {"status": self.deployment}, self.pods, CURRENT, words
            ),
            before=self.before,
            obstacle=self.obstacle,
            host_holder=self.host_holder,
        )
        return status_for(seen, self.settings, NOW + later)


def condition(status: RerankModelStatus, wanted: ConditionType) -> Condition:
    [found] = [one for one in status.conditions if one.type is wanted]
    return found


def waits(reason: str, message: str = "", **fields: Any) -> Manifest:
    """Return a pod whose container does not run, for the kubelet's reason."""
    return pending(state={"waiting": {"reason": reason, "message": message}}, **fields)


def replica(report: ServerStatus, **fields: Any) -> Situation:
    """Return a single replica that says this of itself."""
    return Situation((pod(**fields),), {"bge-1": report})


NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available.",
}
PULL = 'failed to pull and unpack image "example.com/server:1": not found'
EVICTION = {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage. "}
QUOTA = 'pods "bge-1" is forbidden: exceeded quota: gpus, requested: 1, used: 4, limited: 4'
REFUSED = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]}

NOT_PULLED = f"The image example.com/server:1 cannot be pulled: {PULL}. Check its name, and the pull secrets."
CRASH = "The server ended with exit code 1: ValueError: no such family. It is started again."
