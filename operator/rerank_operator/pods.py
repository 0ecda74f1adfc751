"""What holds one pod up, in words: read from the scheduler, the kubelet and the server itself. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from rerank_api.status import MODEL_STATE_OF, ModelState, ServerState, ServerStatus
from rerank_operator.observed import Container, Pod


class Reason(StrEnum):
    """Why a model stands as it does, in one word for programs: the reasons of conditions and events."""

    READY = "Ready"
    AVAILABLE = "Available"
    ACCEPTED = "Accepted"
    REFUSED = "Refused"
    NAME_TAKEN = "NameTaken"
    OBJECT_NAME_IN_USE = "ObjectNameInUse"
    OBJECT_REFUSED = "ObjectRefused"
    GATEWAY_NOT_FOUND = "GatewayNotFound"
    SCALED_TO_ZERO = "ScaledToZero"
    ROLLING_OUT = "RollingOut"
    NOT_CREATED = "NotCreated"
    WAITING_FOR_PODS = "WaitingForPods"
    PODS_REFUSED = "PodsRefused"
    UNSCHEDULABLE = "Unschedulable"
    STARTING = "Starting"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    POD_NOT_PREPARED = "PodNotPrepared"
    CONTAINER_NOT_MADE = "ContainerNotMade"
    EVICTED = "Evicted"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASHED = "Crashed"
    DOWNLOADING = "Downloading"
    DOWNLOAD_FAILED = "DownloadFailed"
    LOADING = "Loading"
    LOAD_FAILED = "LoadFailed"
    VERIFYING = "Verifying"
    VERIFIED = "Verified"
    VERIFICATION_FAILED = "VerificationFailed"
    NOT_VERIFIED = "NotVerified"
    DRAINING = "Draining"


@dataclass(frozen=True)
class Standing:
    """How one pod, or a whole model, stands."""

    state: ModelState
    reason: Reason
    message: str
    """A sentence for a person: what is going on, or what is wrong and what to do."""
    progress: float | None = None
    """Share of the state's work that is done, 0 to 1; None where it cannot be known."""


@dataclass(frozen=True)
class Obstacle:
    """Why what a model needs could not be built, where that is a matter of people and not of time."""

    reason: Reason
    message: str


_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NOT_MADE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_NOT_READ_YET = "failed to sync "
"""Of Secrets and ConfigMaps that the kubelet has not read in time: it says not whether they are there."""
_IN_TURN = "pull QPS exceeded"
"""Of an image that the kubelet pulls after others."""
_LATE = (
    _NOT_READ_YET, " not registered", "timed out waiting for the condition", "context deadline exceeded",
    " is reserved for ", _IN_TURN,
)  # fmt: skip
"""What kubelet and container runtime say where they had no time yet, or are at it still, as on a busy node:
nothing is known to be wrong. A name is reserved for the try that goes on."""

_NO_END = frozenset({None, "Unknown", "ContainerStatusUnknown"})
"""Reasons of an end that nobody saw, as that of its node: the runtime's word for it, and the kubelet's."""

_OF_SERVER = {
    ServerState.DOWNLOADING: Reason.DOWNLOADING,
    ServerState.LOADING: Reason.LOADING,
    ServerState.VERIFYING: Reason.VERIFYING,
    ServerState.WARMING: Reason.VERIFYING,
    ServerState.DRAINING: Reason.DRAINING,
    ServerState.FAILED: Reason.CRASHED,
}
_OF_FAILURE = {
    ServerState.DOWNLOADING: Reason.DOWNLOAD_FAILED,
    ServerState.LOADING: Reason.LOAD_FAILED,
    ServerState.VERIFYING: Reason.VERIFICATION_FAILED,
    ServerState.WARMING: Reason.LOAD_FAILED,
}


def standing(pod: Pod) -> Standing:
    """Say how a pod stands that takes no traffic.

    One that failed stays so until it is past what it failed at: a status that flipped with every new try
    would tell less, and would be written all the time.
    """
    held_up = _before_the_container(pod) or _before_the_process(pod)
    if held_up is not None:
        return held_up
    if pod.report is not None:
        return _told(pod.report)
    return Standing(ModelState.PENDING, Reason.STARTING, "The server's process is starting.")


def _before_the_container(pod: Pod) -> Standing | None:
    """Say what keeps the pod from a node, or from its container."""
    container = pod.container
    if pod.evicted is not None:
        return _failed(Reason.EVICTED, f"A pod was stopped: {sentence(pod.evicted)}")
    if pod.unschedulable is not None:
        message = f"No node takes the pod: {sentence(pod.unschedulable)}"
        return Standing(ModelState.PENDING, Reason.UNSCHEDULABLE, message)
    if container.waiting in _NO_IMAGE and _IN_TURN not in container.waiting_message:
        return _failed(
            Reason.IMAGE_NOT_PULLED,
            f"The image {container.image} cannot be pulled: {sentence(_pull_error(container))} Check its "
            "name, and the pull secrets.",
        )
    if container.waiting in _NOT_MADE and not _is_late(container.waiting_message):
        return _failed(
            Reason.CONTAINER_NOT_MADE,
            f"The server's container cannot be made: {sentence(container.waiting_message)} It is tried "
            "again by itself once that is mended.",
        )
    return None


def _before_the_process(pod: Pod) -> Standing | None:
    """Say what keeps the server from running in its container."""
    if _counts_as_failed(pod):
        return _ended(pod.container)
    if pod.runs:
        return None
    if pod.node is None:
        return Standing(ModelState.PENDING, Reason.STARTING, "The pod waits for a node.")
    words = pod.warning or _pull_error(pod.container)
    if _is_late(words):
        return _late(pod, words)
    if pod.warning is not None:
        message = (
            f"The node {pod.node} cannot prepare the pod: {sentence(pod.warning)} It tries again by itself."
        )
        return _failed(Reason.POD_NOT_PREPARED, message)
    message = f"The node {pod.node} prepares the pod: image and volumes."
    return Standing(ModelState.PENDING, Reason.STARTING, message)


def _is_late(words: str) -> bool:
    return any(late in words for late in _LATE)


def _late(pod: Pod, words: str) -> Standing:
    """Say that a node is slow: that passes by itself, or else its words say at what it is slow."""
    if _NOT_READ_YET in words:
        message = f"The node {pod.node} has not read the pod's Secrets and ConfigMaps yet. It tries again."
    else:
        message = f"The node {pod.node} is slow to start the pod: {sentence(words)} It tries again by itself."
    return Standing(ModelState.PENDING, Reason.STARTING, message)


def _counts_as_failed(pod: Pod) -> bool:
    """Say whether the server's last end still is the news. It is until the next run was ready once; an end
    that the kubelet knows nothing of is that of its node, and no fault of the server."""
    was_ready = pod.report is not None and pod.report.state is ServerState.READY
    return pod.container.ended not in _NO_END and not (pod.runs and was_ready)


def _ended(container: Container) -> Standing:
    if container.ended == "OOMKilled":
        limit = f" (limit {container.memory_limit})" if container.memory_limit else ""
        return _failed(
            Reason.OUT_OF_MEMORY,
            f"The server took more memory than it may{limit} and was killed: raise resources.limits.memory. "
            "It is started again.",
        )
    last = [line for line in container.ended_message.splitlines() if line.strip()]
    words = f": {sentence(last[-1])}" if last else "."
    return _failed(
        Reason.CRASHED, f"The server ended with exit code {container.exit_code}{words} It is started again."
    )


def _told(report: ServerStatus) -> Standing:
    """Repeat what the server says of itself."""
    downloads = report.state is report.failed_in is ServerState.DOWNLOADING and report.progress
    if report.failure is not None and not downloads:
        reason = _OF_FAILURE.get(report.failed_in or report.state, Reason.CRASHED)
        return _failed(reason, sentence(report.failure))
    if report.state is ServerState.READY:
        message = "The server is ready; its pod does not take traffic yet."
        return Standing(ModelState.VERIFYING, Reason.VERIFYING, message)
    state, reason = MODEL_STATE_OF[report.state], _OF_SERVER[report.state]
    return Standing(state, reason, _with_progress(report), report.progress)


def _with_progress(report: ServerStatus) -> str:
    """Return the server's words; a download in whole percents, so that each is written at most once."""
    if report.state is ServerState.DOWNLOADING:
        return "Downloading." if report.progress is None else f"{report.progress:.0%} downloaded."
    return sentence(report.message)


def _pull_error(container: Container) -> str:
    """Return why the last pull failed: `ErrImagePull` says it, and `ImagePullBackOff` repeats it behind that
    word, so that both read the same."""
    _, found, detail = container.waiting_message.partition("ErrImagePull: ")
    return detail if found else container.waiting_message


def _failed(reason: Reason, message: str) -> Standing:
    return Standing(ModelState.FAILED, reason, message)


def sentence(text: str) -> str:
    """Return text of others as a sentence of ours: one line that ends with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
