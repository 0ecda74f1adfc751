"""How a model stands, in words, from what scheduler, kubelet, API server and servers say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ConditionType, ModelState, ServerState
from rerank_operator.pods import Obstacle, Reason
from tests.operator.given import ELSEWHERE, KEY, pending, pod
from tests.operator.situation import (
    CRASH,
    EVICTION,
    LOADING,
    NO_NODE,
    NOT_PULLED,
    OTHER,
    PAUSES,
    PULL,
    QUOTA,
    READY,
    REFUSED,
    STOPPED,
    WRONG,
    Situation,
    condition,
    replica,
    says,
    waits,
)

NOT_READ_YET = "failed to sync secret cache: timed out waiting for the condition"
TOO_LATE = "code = DeadlineExceeded desc = context deadline exceeded"
RESERVED = 'failed to reserve container name "server_bge-1": name "server_bge-1" is reserved for "4f1c"'
OWN_NAME = (
    "choose another in spec.names, or remove it there; `bge` is a model's own name (metadata.name), and such "
    "are not shared."
)


@pytest.mark.parametrize(
    ("situation", "state", "reason", "message"),
    [
        pytest.param(
            Situation(deployment=None),
            ModelState.PENDING,
            Reason.NOT_CREATED,
            "The Deployment is not there yet.",
            id="nothing built yet",
        ),
        pytest.param(
            Situation(),
            ModelState.PENDING,
            Reason.WAITING_FOR_PODS,
            "The pods are not there yet.",
            id="no pods yet",
        ),
        pytest.param(
            Situation(deployment=REFUSED),
            ModelState.FAILED,
            Reason.PODS_REFUSED,
            f"The API server refuses the pods: {QUOTA}.",
            id="a quota refuses the pods",
        ),
        pytest.param(
            Situation((pending(node=None),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The pod waits for a node.",
            id="not scheduled yet",
        ),
        pytest.param(
            Situation((pending(node=None, conditions=[NO_NODE]),)),
            ModelState.PENDING,
            Reason.UNSCHEDULABLE,
            f"No node takes the pod: {NO_NODE['message']}",
            id="no node takes it",
        ),
        pytest.param(
            Situation((pending(),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 prepares the pod: image and volumes.",
            id="on its node",
        ),
        pytest.param(
            Situation((pending(),), warnings={"bge-1": 'MountVolume.SetUp failed: secret "x" not found'}),
            ModelState.FAILED,
            Reason.POD_NOT_PREPARED,
            'The node node-1 cannot prepare the pod: MountVolume.SetUp failed: secret "x" not found. It '
            "tries again by itself.",
            id="a volume that is not there",
        ),
        pytest.param(
            Situation((waits("ErrImagePull", PULL),)),
            ModelState.FAILED,
            Reason.IMAGE_NOT_PULLED,
            NOT_PULLED,
            id="an image that is not there",
        ),
        pytest.param(
            Situation((waits("ImagePullBackOff", f'Back-off pulling image "x": ErrImagePull: {PULL}'),)),
            ModelState.FAILED,
            Reason.IMAGE_NOT_PULLED,
            NOT_PULLED,
            id="the same while the kubelet pauses",
        ),
        pytest.param(
            Situation((waits("CreateContainerConfigError", 'secret "hub" not found'),)),
            ModelState.FAILED,
            Reason.CONTAINER_NOT_MADE,
            'The server\'s container cannot be made: secret "hub" not found. It is tried again by itself '
            "once that is mended.",
            id="a secret that is not there",
        ),
        pytest.param(
            Situation((waits("CreateContainerConfigError", NOT_READ_YET),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 has not read the pod's Secrets and ConfigMaps yet. It tries again.",
            id="a secret that the node has not looked for in time",
        ),
        pytest.param(
            Situation((pending(),), warnings={"bge-1": f'MountVolume.SetUp failed for "x" : {NOT_READ_YET}'}),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 has not read the pod's Secrets and ConfigMaps yet. It tries again.",
            id="a volume of a secret that the node has not looked for in time",
        ),
        pytest.param(
            Situation(
                (pending(),), warnings={"bge-1": f"Failed to create pod sandbox: rpc error: {TOO_LATE}"}
            ),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 is slow to start the pod: Failed to create pod sandbox: rpc error: "
            f"{TOO_LATE}. It tries again by itself.",
            id="a network that a busy node has not made in time",
        ),
        pytest.param(
            Situation((waits("CreateContainerError", TOO_LATE),)),
            ModelState.PENDING,
            Reason.STARTING,
            f"The node node-1 is slow to start the pod: {TOO_LATE}. It tries again by itself.",
            id="a container that a busy node has not made in time",
        ),
        pytest.param(
            Situation((waits("RunContainerError", TOO_LATE, last={"terminated": STOPPED}),)),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="a busy node, after a crash",
        ),
        pytest.param(
            Situation((waits("CreateContainerError", RESERVED),)),
            ModelState.PENDING,
            Reason.STARTING,
            f"The node node-1 is slow to start the pod: {RESERVED}. It tries again by itself.",
            id="a container that a busy node is still making",
        ),
        pytest.param(
            Situation((waits("ImagePullBackOff", "Back-off pulling: ErrImagePull: pull QPS exceeded"),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 is slow to start the pod: pull QPS exceeded. It tries again by itself.",
            id="an image behind many others",
        ),
        pytest.param(
            Situation((pod(),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The server's process is starting.",
            id="a server that does not answer yet",
        ),
        pytest.param(
            Situation((pod(state={"terminated": {"reason": "OOMKilled", "exitCode": 137}}, memory="2Gi"),)),
            ModelState.FAILED,
            Reason.OUT_OF_MEMORY,
            "The server took more memory than it may (limit 2Gi) and was killed: raise "
            "resources.limits.memory. It is started again.",
            id="out of memory",
        ),
        pytest.param(
            Situation((pod(last={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),)),
            ModelState.FAILED,
            Reason.OUT_OF_MEMORY,
            "The server took more memory than it may and was killed: raise resources.limits.memory. It is "
            "started again.",
            id="out of memory without a limit of its own, and started again",
        ),
        pytest.param(
            Situation((pod(state={"terminated": STOPPED}),)),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="a crash, with the last line of its log",
        ),
        pytest.param(
            Situation((waits("CrashLoopBackOff", "back-off 5m0s restarting", last={"terminated": STOPPED}),)),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="the same while the kubelet pauses",
        ),
        pytest.param(
            Situation((pod(last={"terminated": STOPPED}),), {"bge-1": LOADING}),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="the same while it loads again",
        ),
        pytest.param(
            Situation((pod(last={"terminated": STOPPED}),), {"bge-1": READY}),
            ModelState.VERIFYING,
            Reason.VERIFYING,
            "The server is ready; its pod does not take traffic yet.",
            id="the same no more once it is ready again",
        ),
        pytest.param(
            Situation((pod(state={"terminated": STOPPED}),), {"bge-1": READY}),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="a crash after it was ready",
        ),
        pytest.param(
            Situation((pod(phase="Running", last={"terminated": STOPPED}, state=PAUSES),), {"bge-1": READY}),
            ModelState.FAILED,
            Reason.CRASHED,
            CRASH,
            id="a crash after it was ready, while the kubelet pauses",
        ),
        pytest.param(
            Situation((pod(last={"terminated": {"exitCode": 255, "reason": "Unknown"}}),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The server's process is starting.",
            id="started again with its node",
        ),
        pytest.param(
            Situation((pod(last={"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The server's process is starting.",
            id="started again with a node that has forgotten it",
        ),
        pytest.param(
            Situation((pod(state={"terminated": {"exitCode": 255, "reason": "Unknown"}}),)),
            ModelState.PENDING,
            Reason.STARTING,
            "The node node-1 prepares the pod: image and volumes.",
            id="not started again yet by its node, which was",
        ),
        pytest.param(
            Situation((pod(state={"terminated": {"exitCode": 3, "reason": "Error"}}),)),
            ModelState.FAILED,
            Reason.CRASHED,
            "The server ended with exit code 3. It is started again.",
            id="a crash without a word",
        ),
        pytest.param(
            replica(says(ServerState.DOWNLOADING, "Fetching the model")),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "Downloading.",
            id="a download begins",
        ),
        pytest.param(
            replica(says(ServerState.DOWNLOADING, "912.3 MB downloaded")),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "Downloading.",
            id="a download of which nobody knows how much there is",
        ),
        pytest.param(
            replica(says(ServerState.DOWNLOADING, "912.3 MB of 2121.6 MB downloaded", progress=0.43002)),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "43% downloaded.",
            id="a download goes on",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.FAILED,
                    "The hub does not answer. Trying again in 4 s.",
                    failure="The hub does not answer.",
                    failed_in=ServerState.DOWNLOADING,
                )
            ),
            ModelState.FAILED,
            Reason.DOWNLOAD_FAILED,
            "The hub does not answer.",
            id="a download fails",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.DOWNLOADING,
                    "Fetching the model",
                    failure="The hub does not answer.",
                    failed_in=ServerState.DOWNLOADING,
                )
            ),
            ModelState.FAILED,
            Reason.DOWNLOAD_FAILED,
            "The hub does not answer.",
            id="a download is tried again",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.DOWNLOADING,
                    "912.3 MB of 2121.6 MB downloaded",
                    progress=0.43,
                    failure="The hub does not answer.",
                    failed_in=ServerState.DOWNLOADING,
                )
            ),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "43% downloaded.",
            id="a download goes on after a failure",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.FAILED,
                    "No weights. Trying again in 4 s.",
                    failure="The directory /model has no weights.",
                    failed_in=ServerState.LOADING,
                )
            ),
            ModelState.FAILED,
            Reason.LOAD_FAILED,
            "The directory /model has no weights.",
            id="a load fails",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.LOADING,
                    "Loading content-1",
                    failure="The directory /model has no weights.",
                    failed_in=ServerState.LOADING,
                )
            ),
            ModelState.FAILED,
            Reason.LOAD_FAILED,
            "The directory /model has no weights.",
            id="a load is tried again",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.DOWNLOADING,
                    "2121.6 MB of 2121.6 MB downloaded",
                    progress=1.0,
                    failure="The directory /model has no weights.",
                    failed_in=ServerState.LOADING,
                )
            ),
            ModelState.FAILED,
            Reason.LOAD_FAILED,
            "The directory /model has no weights.",
            id="files that are there already are counted before a load is tried again",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.FAILED,
                    "…",
                    failure="Unexpected failure: KeyError('x')",
                    failed_in=ServerState.LOADING,
                )
            ),
            ModelState.FAILED,
            Reason.LOAD_FAILED,
            "Unexpected failure: KeyError('x').",
            id="a failure that is no sentence becomes one",
        ),
        pytest.param(
            replica(
                says(
                    ServerState.FAILED,
                    "…",
                    failure="Verification failed: golden 1, document 1: expected 0.9, got 0.1.",
                    failed_in=ServerState.VERIFYING,
                    verification=WRONG,
                )
            ),
            ModelState.FAILED,
            Reason.VERIFICATION_FAILED,
            "Verification failed: golden 1, document 1: expected 0.9, got 0.1.",
            id="scores that are wrong",
        ),
        pytest.param(
            replica(LOADING), ModelState.LOADING, Reason.LOADING, "Loading content-1.", id="a model is loaded"
        ),
        pytest.param(
            replica(says(ServerState.WARMING, "Running the first batches")),
            ModelState.VERIFYING,
            Reason.VERIFYING,
            "Running the first batches.",
            id="warming up",
        ),
        pytest.param(
            replica(READY),
            ModelState.VERIFYING,
            Reason.VERIFYING,
            "The server is ready; its pod does not take traffic yet.",
            id="ready by its own word alone",
        ),
        pytest.param(
            replica(READY, ready=True), ModelState.READY, Reason.READY, "1 replica ready.", id="ready"
        ),
        pytest.param(
            Situation((pod(ready=True),)),
            ModelState.READY,
            Reason.READY,
            "1 replica ready.",
            id="ready, and silent",
        ),
        pytest.param(
            replica(says(ServerState.READY, verification=WRONG), ready=True),
            ModelState.READY,
            Reason.READY,
            "1 replica ready.",
            id="wrong scores that are not required",
        ),
        pytest.param(
            Situation((pod(phase="Failed", address=None, state={"terminated": STOPPED}, **EVICTION),)),
            ModelState.FAILED,
            Reason.EVICTED,
            "A pod was stopped: Evicted: The node was low on resource: ephemeral-storage.",
            id="evicted",
        ),
        pytest.param(
            Situation((pod(phase="Failed", address=None),)),
            ModelState.FAILED,
            Reason.EVICTED,
            "A pod was stopped: Failed.",
            id="stopped without a word",
        ),
        pytest.param(
            Situation((pod(phase="Failed", **EVICTION), pod("bge-2")), {"bge-2": LOADING}),
            ModelState.LOADING,
            Reason.LOADING,
            "Loading content-1.",
            id="evicted, and replaced already",
        ),
        pytest.param(
            Situation((pod(ready=True), pod("bge-2")), {"bge-1": READY, "bge-2": LOADING}, replicas=2),
            ModelState.DEGRADED,
            Reason.LOADING,
            "1 of 2 replicas ready. The next: Loading content-1.",
            id="two replicas, one ready",
        ),
        pytest.param(
            Situation(
                (pod(ready=True), pod("bge-2"), pending("bge-3", node=None, conditions=[NO_NODE])),
                {"bge-1": READY, "bge-2": LOADING},
                replicas=3,
            ),
            ModelState.DEGRADED,
            Reason.UNSCHEDULABLE,
            f"1 of 3 replicas ready. The next: No node takes the pod: {NO_NODE['message']}",
            id="three replicas, told of the one that is held up most",
        ),
        pytest.param(
            Situation((pod(ready=True), pod("bge-2", ready=True)), replicas=2),
            ModelState.READY,
            Reason.READY,
            "2 replicas ready.",
            id="two replicas",
        ),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"), pod("bge-2")), {"bge-2": LOADING}),
            ModelState.LOADING,
            Reason.ROLLING_OUT,
            "Serving as before the change with 1 replica. The replacement: Loading content-1.",
            id="a rollout that goes well",
        ),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"),)),
            ModelState.PENDING,
            Reason.ROLLING_OUT,
            "Serving as before the change with 1 replica. The replacement: The pods are not there yet.",
            id="a rollout that begins",
        ),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"), waits("ErrImagePull", PULL, name="bge-2"))),
            ModelState.DEGRADED,
            Reason.IMAGE_NOT_PULLED,
            f"Serving as before the change with 1 replica. The replacement: {NOT_PULLED}",
            id="a rollout that fails",
        ),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"),), deployment=REFUSED),
            ModelState.DEGRADED,
            Reason.PODS_REFUSED,
            f"Serving as before the change with 1 replica. The replacement: The API server refuses the pods: "
            f"{QUOTA}.",
            id="a rollout that a quota refuses",
        ),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"), pod("bge-2", ready=True)), {"bge-2": READY}),
            ModelState.READY,
            Reason.READY,
            "1 replica ready; what they replace finishes its requests.",
            id="a rollout that is through",
        ),
        pytest.param(
            Situation((pod(ready=True),), replicas=0),
            ModelState.IDLE,
            Reason.SCALED_TO_ZERO,
            "spec.replicas is 0: set it to 1 or more to serve this model.",
            id="no replicas wanted",
        ),
        pytest.param(
            Situation(spec=ELSEWHERE),
            ModelState.FAILED,
            Reason.REFUSED,
            "spec.source.file: a folder of one machine is for the local runner: give hostPath or pvc, which "
            "pods can mount.",
            id="refused",
        ),
        pytest.param(
            Situation((pod(ready=True),), spec=ELSEWHERE),
            ModelState.DEGRADED,
            Reason.REFUSED,
            "Serving as before the change, which is not acted on: spec.source.file: a folder of one machine "
            "is for the local runner: give hostPath or pvc, which pods can mount.",
            id="refused while it serves",
        ),
        pytest.param(
            Situation(holders={"bge": OTHER}),
            ModelState.FAILED,
            Reason.NAME_TAKEN,
            "It has no name left to be asked by, and is not started. `bge`: The older model search/older has "
            f"this name: {OWN_NAME}",
            id="its only name is taken",
        ),
        pytest.param(
            Situation((pod(ready=True),), names=("bge", "own"), holders={"bge": OTHER, "own": KEY}),
            ModelState.READY,
            Reason.READY,
            f"1 replica ready. `bge`: The older model search/older has this name: {OWN_NAME}",
            id="one of its names is taken",
        ),
        pytest.param(
            Situation((pod(ready=True),), host_holder=OTHER),
            ModelState.READY,
            Reason.READY,
            "1 replica ready. The older model search/older has the host of spec.ingress: choose another.",
            id="its host is taken",
        ),
        pytest.param(
            Situation(
                (pod(ready=True),),
                names=("bge", "own"),
                holders={"bge": OTHER, "own": KEY},
                host_holder=OTHER,
            ),
            ModelState.READY,
            Reason.READY,
            f"1 replica ready. `bge`: The older model search/older has this name: {OWN_NAME} The older model "
            "search/older has the host of spec.ingress: choose another.",
            id="one of its names and its host are taken",
        ),
        pytest.param(
            Situation((pod(ready=True),), holders={"bge": OTHER}),
            ModelState.DEGRADED,
            Reason.NAME_TAKEN,
            "Its replicas run on. It has no name left to be asked by. `bge`: The older model search/older "
            f"has this name: {OWN_NAME}",
            id="its only name is taken while it serves",
        ),
        pytest.param(
            Situation((pod(ready=True),), obstacle=Obstacle(Reason.OBJECT_REFUSED, "No Ingress.")),
            ModelState.DEGRADED,
            Reason.OBJECT_REFUSED,
            "Serving, but not all of the manifest is in force: No Ingress.",
            id="an object beside its replicas is refused",
        ),
        pytest.param(
            Situation(obstacle=Obstacle(Reason.OBJECT_NAME_IN_USE, "There is a Service bge already.")),
            ModelState.FAILED,
            Reason.OBJECT_NAME_IN_USE,
            "There is a Service bge already.",
            id="somebody's object is in the way",
        ),
    ],
)
def test_a_model_stands_as_its_replicas_do(
    situation: Situation, state: ModelState, reason: Reason, message: str
) -> None:
    status = situation.status()
    ready = condition(status, ConditionType.READY)
    assert (status.state, ready.reason, status.message) == (state, reason, message)
    assert ready.message == message
    assert (ready.status == "True") is (state is ModelState.READY)


SITUATIONS = [
    pytest.param(case.values[0], id=str(case.id))
    for case in test_a_model_stands_as_its_replicas_do.pytestmark[0].args[1]
]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_everything_that_is_said_is_a_sentence(situation: Situation) -> None:
    status = situation.status()
    for said in (status.message, *(one.message for one in status.conditions)):
        assert said is not None
        assert said.endswith(".")
        assert "  " not in said
        assert ".." not in said
        assert ":." not in said
        assert "\n" not in said


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_said_again_is_the_same_so_that_nothing_is_written(situation: Situation) -> None:
    first = situation.status()
    read = RerankModelStatus.model_validate_json(first.model_dump_json(by_alias=True, exclude_none=True))
    assert replace(situation, before=read).status(timedelta(hours=1)) == first


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_condition_is_said_of_the_generation_that_was_looked_at(situation: Situation) -> None:
    status = replace(situation, generation=7).status()
    assert [one.type for one in status.conditions] == list(ConditionType)
    assert {one.observed_generation for one in status.conditions} == {7}
