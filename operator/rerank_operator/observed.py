"""What was seen of one model, as frozen values: parsed once from what the API server and the servers say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rerank_api.status import ServerStatus
from rerank_operator.keys import Manifest

FINGERPRINT = "rerank.dev/fingerprint"
"""Annotation of pods: a digest of the template that they were made from."""
CONTAINER = "server"
"""The server's container of a pod, which may hold others that somebody has added."""


_FAILURES = frozenset(
    {
        "FailedMount",
        "FailedAttachVolume",
        "FailedMapVolume",
        "FailedCreatePodSandBox",
        "FailedPrepareDynamicResources",
    }
)
_PREPARING = frozenset({None, "ContainerCreating", "PodInitializing"})
_SUMMARY = "Unable to attach or mount volumes"
"""How the kubelet begins what it says of all volumes together, every two minutes: it names no cause."""


@dataclass(frozen=True)
class Words:
    """What was said about pods by those that watches do not bring."""

    reports: Mapping[str, ServerStatus] = field(default_factory=dict)
    """By `Pod.life`."""
    warnings: Mapping[str, str] = field(default_factory=dict)
    """By the pods' uid."""


@dataclass(frozen=True)
class Container:
    """The server's container: what the kubelet says of it."""

    image: str = ""
    waiting: str | None = None
    """Why it does not run, in the kubelet's one word."""
    waiting_message: str = ""
    ended: str | None = None
    """Why it ended, now or the last time, in the kubelet's one word."""
    ended_message: str = ""
    """The last lines of its log, where it failed."""
    exit_code: int | None = None
    is_over: bool = False
    """Whether it has ended and was not started again yet."""
    restarts: int = 0
    memory_limit: str | None = None


@dataclass(frozen=True)
class Pod:
    """One replica."""

    name: str
    uid: str
    current: bool
    """Whether it was made from the template as it should be now."""
    phase: str
    ready: bool = False
    node: str | None = None
    accepted: datetime | None = None
    """When the node took it."""
    has_network: bool = False
    """Whether the node has prepared volumes and network, so that image and container alone are to come."""
    address: str | None = None
    unschedulable: str | None = None
    """The scheduler's own words for why no node takes it."""
    evicted: str | None = None
    container: Container = Container()
    warning: str | None = None
    """What failed last while the node prepared the pod, as the mounting of a volume."""
    report: ServerStatus | None = None
    """What the server itself says, where it was asked."""

    @property
    def is_prepared(self) -> bool:
        """Say whether a node has it and works on its volumes and network."""
        waits = self.phase == "Pending" and self.container.waiting in _PREPARING
        return self.node is not None and waits and not self.has_network

    @property
    def life(self) -> str:
        """Name this run of the server: one that is started again has a story of its own."""
        return f"{self.uid}/{self.container.restarts}"

    @property
    def runs(self) -> bool:
        """Say whether there is a server that can be asked."""
        stands = self.container.waiting is not None or self.container.is_over
        return self.phase == "Running" and self.address is not None and not stands


def uid_of(life: str) -> str:
    """Return the uid of the pod that a `Pod.life` is of."""
    return life.rpartition("/")[0]


@dataclass(frozen=True)
class DeploymentSeen:
    """What the Deployment's controllers say of it."""

    replicas: int
    """Pods that exist."""
    ready_replicas: int
    refusal: str | None = None
    """Why the API server refuses its pods, where it does (a quota, a missing service account)."""


@dataclass(frozen=True)
class Observed:
    """Everything that was seen of one model."""

    deployment: DeploymentSeen | None = None
    pods: tuple[Pod, ...] = ()
    """Those that are not on their way out, by name."""

    @property
    def ready(self) -> tuple[Pod, ...]:
        """Return the replicas that take traffic."""
        return tuple(pod for pod in self.pods if pod.ready)

    @property
    def current(self) -> tuple[Pod, ...]:
        """Return the replicas of the version that is wanted."""
        return tuple(pod for pod in self.pods if pod.current)


def observe(
    deployment: Manifest | None,
    pods: Iterable[Manifest],
    fingerprint: str | None,
    words: Words = Words(),
) -> Observed:
    """Parse what was seen. `fingerprint` is that of the wanted template."""
    return Observed(
        deployment=None if deployment is None else _deployment(deployment),
        pods=tuple(
            _pod(pod, fingerprint, words) for pod in pods if not pod["metadata"].get("deletionTimestamp")
        ),
    )


def complaint(events: Sequence[Manifest]) -> str | None:
    """Return what last failed while a node prepared a pod, from the pod's warnings, the newest last.

    Others say nothing of that: that no node was free before, or that a probe has not been answered yet.
    """
    failures = [str(event["message"]) for event in events if event["reason"] in _FAILURES]
    causes = [words for words in failures if not words.startswith(_SUMMARY)]
    return next(reversed(causes or failures), None)


def _deployment(manifest: Manifest) -> DeploymentSeen:
    status = manifest.get("status", {})
    failure = _condition(status, "ReplicaFailure")
    return DeploymentSeen(
        replicas=status.get("replicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        refusal=failure.get("message", "") if failure.get("status") == "True" else None,
    )


def _pod(manifest: Manifest, fingerprint: str | None, words: Words) -> Pod:
    metadata, spec, status = manifest["metadata"], manifest["spec"], manifest.get("status", {})
    scheduled = _condition(status, "PodScheduled")
    annotations = metadata.get("annotations") or {}
    failed = status.get("phase") == "Failed"
    accepted = status.get("startTime")
    pod = Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        current=fingerprint is not None and annotations.get(FINGERPRINT) == fingerprint,
        phase=status.get("phase", "Pending"),
        ready=_condition(status, "Ready").get("status") == "True",
        node=spec.get("nodeName"),
        address=status.get("podIP"),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else None,
        evicted=_why_it_failed(status) if failed else None,
        container=_container(spec, status),
        accepted=None if accepted is None else datetime.fromisoformat(accepted),
        has_network=_condition(status, "PodReadyToStartContainers").get("status") == "True",
        warning=words.warnings.get(metadata["uid"]),
    )
    return replace(pod, report=words.reports.get(pod.life))


def _why_it_failed(status: Manifest) -> str:
    reason, message = status.get("reason", "Failed"), status.get("message", "")
    return f"{reason}: {message}" if message else str(reason)


def _container(spec: Manifest, status: Manifest) -> Container:
    wanted = next((one for one in spec["containers"] if one["name"] == CONTAINER), spec["containers"][0])
    limit = wanted.get("resources", {}).get("limits", {}).get("memory")
    seen = next((one for one in status.get("containerStatuses") or () if one["name"] == wanted["name"]), None)
    if seen is None:
        return Container(image=wanted["image"], memory_limit=limit)
    state = seen.get("state", {})
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or seen.get("lastState", {}).get("terminated") or {}
    return Container(
        image=wanted["image"],
        waiting=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        ended=ended.get("reason"),
        ended_message=ended.get("message", ""),
        exit_code=ended.get("exitCode"),
        is_over=bool(state.get("terminated")),
        restarts=seen.get("restartCount", 0),
        memory_limit=limit,
    )


def _condition(status: Manifest, wanted: str) -> Manifest:
    return next((one for one in status.get("conditions") or () if one["type"] == wanted), {})
