"""How a model stands, in words, from what scheduler, kubelet, API server and servers say."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from rerank_api.rerank_model import Condition, RerankModelStatus, VerificationResult
from rerank_api.status import ConditionType, ModelState, ServerState, ServerStatus, Verification
from rerank_operator.accept import Refused, accept
from rerank_operator.keys import Key
from rerank_operator.observed import Words, observe
from rerank_operator.pods import Obstacle, Reason
from rerank_operator.settings import Settings
from rerank_operator.status import Seen, runnable, status_for
from tests.operator.given import CURRENT, KEY, NOW, Manifest, model, pending, pod, settings

SCORES = Verification(checked=12, max_deviation=0.00123, passed=True)
WRONG = Verification(checked=12, max_deviation=0.9, passed=False)
OTHER = Key("search", "older")


def says(state: ServerState, message: str = "As the server says", **fields: Any) -> ServerStatus:
    return ServerStatus(state=state, message=message, **fields)


READY = says(ServerState.READY, verification=SCORES, engine="padded-cpu", revision="main-1")
LOADING = says(ServerState.LOADING, "Loading content-1")
STOPPED = {"exitCode": 1, "reason": "Error", "message": "Traceback:\n  ...\nValueError: no such family\n\n"}


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
    holders: Mapping[str, Key] = field(default_factory=lambda: {KEY.name: KEY})
    names: tuple[str, ...] = (KEY.name,)
    obstacle: Obstacle | None = None
    before: RerankModelStatus = field(default_factory=RerankModelStatus)
    generation: int = 1
    settings: Settings = field(default_factory=settings)

    def status(self, later: timedelta = timedelta()) -> RerankModelStatus:
        """Return the status that is written."""
        raw = model(replicas=self.replicas, **self.spec)
        words = Words(
            {f"uid of {name}": report for name, report in self.reports.items()},
            {f"uid of {name}": warning for name, warning in self.warnings.items()},
        )
        seen = Seen(
            key=KEY,
            generation=self.generation,
            verdict=accept(raw, self.settings),
            names=self.names,
            holders=self.holders,
            observed=observe(
                None if self.deployment is None else {"status": self.deployment}, self.pods, CURRENT, words
            ),
            before=self.before,
            obstacle=self.obstacle,
        )
        return status_for(seen, self.settings, NOW + later)


def condition(status: RerankModelStatus, wanted: ConditionType) -> Condition:
    [found] = [one for one in status.conditions if one.type is wanted]
    return found


def waits(reason: str, message: str = "", **fields: Any) -> Manifest:
    """Return a pod whose container does not run, for the kubelet's reason."""
    return pending(state={"waiting": {"reason": reason, "message": message}}, **fields)


def one(report: ServerStatus, **fields: Any) -> Situation:
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
            Situation((pod(state={"terminated": {"exitCode": 3, "reason": "Error"}}),)),
            ModelState.FAILED,
            Reason.CRASHED,
            "The server ended with exit code 3. It is started again.",
            id="a crash without a word",
        ),
        pytest.param(
            one(says(ServerState.DOWNLOADING, "Fetching the model")),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "Fetching the model.",
            id="a download begins",
        ),
        pytest.param(
            one(says(ServerState.DOWNLOADING, "912.3 MB of 2121.6 MB downloaded", progress=0.43002)),
            ModelState.DOWNLOADING,
            Reason.DOWNLOADING,
            "43% downloaded.",
            id="a download goes on",
        ),
        pytest.param(
            one(
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
            one(
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
            one(
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
            one(
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
            one(
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
            one(
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
            one(
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
            one(
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
            one(LOADING), ModelState.LOADING, Reason.LOADING, "Loading content-1.", id="a model is loaded"
        ),
        pytest.param(
            one(says(ServerState.WARMING, "Running the first batches")),
            ModelState.VERIFYING,
            Reason.VERIFYING,
            "Running the first batches.",
            id="warming up",
        ),
        pytest.param(
            one(READY),
            ModelState.VERIFYING,
            Reason.VERIFYING,
            "The server is ready; its pod does not take traffic yet.",
            id="ready by its own word alone",
        ),
        pytest.param(one(READY, ready=True), ModelState.READY, Reason.READY, "1 replica ready.", id="ready"),
        pytest.param(
            Situation((pod(ready=True),)),
            ModelState.READY,
            Reason.READY,
            "1 replica ready.",
            id="ready, and silent",
        ),
        pytest.param(
            one(says(ServerState.READY, verification=WRONG), ready=True),
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
            Situation(spec={"weight": 5}),
            ModelState.FAILED,
            Reason.REFUSED,
            "spec.weight: the operator does not share a name between models yet: remove it.",
            id="refused",
        ),
        pytest.param(
            Situation((pod(ready=True),), spec={"weight": 5}),
            ModelState.DEGRADED,
            Reason.REFUSED,
            "Serving as before the change, which is not acted on: spec.weight: the operator does not share a "
            "name between models yet: remove it.",
            id="refused while it serves",
        ),
        pytest.param(
            Situation(holders={"bge": OTHER}),
            ModelState.FAILED,
            Reason.NAME_TAKEN,
            "It has no name left to be asked by, and is not started. `bge`: The older model search/older has "
            "this name: choose another in spec.names, or remove it there.",
            id="its only name is taken",
        ),
        pytest.param(
            Situation((pod(ready=True),), names=("bge", "own"), holders={"bge": OTHER, "own": KEY}),
            ModelState.READY,
            Reason.READY,
            "1 replica ready. `bge`: The older model search/older has this name: choose another in "
            "spec.names, or remove it there.",
            id="one of its names is taken",
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


def test_a_conditions_time_moves_only_when_its_status_flips() -> None:
    hour = timedelta(hours=1)
    starting = Situation((pod(),)).status()
    loading = replace(one(LOADING), before=starting).status(hour)
    ready = replace(one(READY, ready=True), before=loading).status(2 * hour)
    gone = replace(one(LOADING), before=ready, generation=2).status(3 * hour)
    times = [
        condition(status, ConditionType.READY).last_transition_time for status in (starting, loading, ready)
    ]
    assert times == [NOW, NOW, NOW + 2 * hour]
    assert condition(gone, ConditionType.READY).last_transition_time == NOW + 3 * hour
    assert condition(gone, ConditionType.ACCEPTED).last_transition_time == NOW


@pytest.mark.parametrize(
    ("situation", "status", "reason", "message"),
    [
        pytest.param(
            Situation(), "Unknown", Reason.NOT_VERIFIED, "No replica has compared scores.", id="nobody yet"
        ),
        pytest.param(
            one(READY, ready=True),
            "True",
            Reason.VERIFIED,
            "12 scores compared, the largest deviation is 0.0012.",
            id="all agree",
        ),
        pytest.param(
            one(says(ServerState.READY, verification=WRONG), ready=True),
            "False",
            Reason.VERIFICATION_FAILED,
            "12 scores compared, the largest deviation is 0.9.",
            id="wrong, and not required",
        ),
        pytest.param(
            one(
                says(ServerState.READY, verification=Verification(checked=1, max_deviation=0, passed=True)),
                ready=True,
            ),
            "True",
            Reason.VERIFIED,
            "1 score compared, the largest deviation is 0.",
            id="a single score",
        ),
        pytest.param(
            Situation(
                (pod(ready=True), pod("bge-2")),
                {"bge-1": READY, "bge-2": says(ServerState.VERIFYING, verification=WRONG)},
                replicas=2,
            ),
            "True",
            Reason.VERIFIED,
            "12 scores compared, the largest deviation is 0.0012.",
            id="the replica that serves is believed",
        ),
        pytest.param(
            Situation(
                (pod(), pod("bge-2", ready=True)),
                {"bge-1": says(ServerState.VERIFYING, verification=WRONG), "bge-2": READY},
                replicas=2,
            ),
            "True",
            Reason.VERIFIED,
            "12 scores compared, the largest deviation is 0.0012.",
            id="whichever comes first",
        ),
        pytest.param(
            Situation((pod(fingerprint="old", ready=True),), {"bge-1": READY}),
            "Unknown",
            Reason.NOT_VERIFIED,
            "No replica has compared scores.",
            id="what an older version computed proves nothing",
        ),
    ],
)
def test_scores_are_verified_as_the_servers_of_this_version_found(
    situation: Situation, status: str, reason: Reason, message: str
) -> None:
    found = condition(situation.status(), ConditionType.VERIFIED)
    assert (found.status, found.reason, found.message) == (status, reason, message)


def test_a_verification_stands_while_the_replica_that_made_it_serves_in_silence() -> None:
    verified = one(READY, ready=True).status()
    silent = Situation((pod(ready=True),), before=verified)
    assert silent.status() == verified
    gone = Situation((pod(),), before=verified)
    assert condition(gone.status(), ConditionType.VERIFIED).status == "Unknown"


def test_a_reason_that_another_version_of_the_operator_gave_stops_nobody() -> None:
    verified = one(READY, ready=True).status()
    before = verified.model_copy(
        update={
            "conditions": tuple(one.model_copy(update={"reason": "Foreseen"}) for one in verified.conditions)
        }
    )
    status = Situation((pod(ready=True),), before=before).status()
    assert condition(status, ConditionType.VERIFIED).status == "Unknown"


@pytest.mark.parametrize(
    ("situation", "status", "message"),
    [
        pytest.param(Situation((pod(),)), "False", "No replica answers.", id="nobody"),
        pytest.param(Situation((pod(ready=True),)), "True", "1 replica answering.", id="one"),
        pytest.param(
            Situation((pod(ready=True, fingerprint="old"), pod("bge-2", ready=True))),
            "True",
            "2 replicas answering.",
            id="of whatever version",
        ),
        pytest.param(
            Situation((pod(ready=True),), spec={"weight": 5}),
            "True",
            "1 replica answering.",
            id="though refused",
        ),
    ],
)
def test_a_model_is_available_while_any_replica_takes_traffic(
    situation: Situation, status: str, message: str
) -> None:
    found = condition(situation.status(), ConditionType.AVAILABLE)
    assert (found.status, found.message) == (status, message)


def test_numbers_and_facts_are_those_that_were_seen() -> None:
    status = replace(one(READY, ready=True), deployment={"replicas": 3}).status()
    assert (status.replicas, status.ready_replicas) == (3, 1)
    assert (status.engine, status.revision) == ("padded-cpu", "main-1")
    assert status.verification == VerificationResult(checked=12, max_deviation=0.00123, passed=True)
    assert status.selector == "rerank.dev/model=bge"


def test_facts_of_a_replica_outlive_it() -> None:
    before = one(READY, ready=True).status()
    status = Situation(before=before).status()
    assert (status.engine, status.revision) == ("padded-cpu", "main-1")
    assert status.verification == before.verification


def test_a_pod_on_its_way_out_is_no_replica() -> None:
    leaving = pod(ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    status = Situation((leaving,)).status()
    assert status.ready_replicas == 0
    assert status.state is ModelState.PENDING


def test_a_container_that_was_put_before_the_server_is_not_taken_for_it() -> None:
    crashed = pod(state={"terminated": STOPPED})
    crashed["spec"]["containers"].insert(0, {"name": "proxy", "image": "example.com/proxy:1"})
    crashed["status"]["containerStatuses"].insert(
        0, {"name": "proxy", "ready": True, "state": {"running": {}}}
    )
    assert Situation((crashed,)).status().message == CRASH


def test_each_name_is_told_with_who_has_it() -> None:
    status = Situation(names=("bge", "a/b"), holders={"bge": OTHER, "a/b": KEY}).status()
    lost, kept = status.names
    assert (lost.name, lost.accepted) == ("bge", False)
    assert lost.message == (
        "The older model search/older has this name: choose another in spec.names, or remove it there."
    )
    assert (kept.name, kept.accepted, kept.message) == ("a/b", True, None)
    assert status.served_names == "a/b"
    assert Situation(holders={"bge": OTHER}).status().served_names is None


@pytest.mark.parametrize(
    ("names", "holders", "runs"),
    [
        pytest.param(["bge"], {"bge": KEY}, True, id="its own"),
        pytest.param(["bge", "x"], {"bge": OTHER, "x": KEY}, True, id="one of two"),
        pytest.param(["bge"], {"bge": OTHER}, False, id="another's"),
        pytest.param(["bge"], {}, False, id="not known yet"),
    ],
)
def test_a_model_without_a_name_is_not_run(names: list[str], holders: dict[str, Key], runs: bool) -> None:
    assert runnable(names, KEY, holders) is runs


@pytest.mark.parametrize(
    ("resources", "gpu"),
    [
        pytest.param({}, None, id="nothing asked for"),
        pytest.param({"limits": {"cpu": 1, "memory": "1Gi"}}, None, id="no devices"),
        pytest.param({"limits": {"nvidia.com/gpu": 1}}, "1 nvidia.com/gpu", id="a GPU"),
        pytest.param(
            {"limits": {"nvidia.com/gpu": 2, "example.com/nic": 1}},
            "1 example.com/nic, 2 nvidia.com/gpu",
            id="two kinds of devices",
        ),
        pytest.param({"limits": {"hugepages-2Mi": "1Gi"}}, None, id="memory of another kind"),
        pytest.param({"claims": [{"name": "gpu"}]}, "claim gpu", id="a claim"),
    ],
)
def test_the_devices_of_a_replica_are_told(resources: dict[str, Any], gpu: str | None) -> None:
    assert Situation(spec={"resources": resources}).status().gpu == gpu


@pytest.mark.parametrize(
    ("spec", "by", "url"),
    [
        pytest.param({}, {}, "http://rerank-gateway.rerank.svc", id="at the gateway"),
        pytest.param(
            {"ingress": {"host": "bge.example.com"}}, {}, "http://bge.example.com", id="at its own host"
        ),
        pytest.param(
            {"ingress": {"host": "bge.example.com"}},
            {"ingress": {"tlsSecret": "wildcard"}},
            "https://bge.example.com",
            id="at its own host, with a certificate",
        ),
        pytest.param({"weight": 5}, {}, None, id="nowhere, for it is refused"),
    ],
)
def test_clients_are_told_where_to_ask(spec: dict[str, Any], by: dict[str, Any], url: str | None) -> None:
    assert Situation(spec=spec, settings=settings(**by)).status().url == url


LONG = "word " * 20_000


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(one(says(ServerState.LOADING, LONG)), id="what a server says"),
        pytest.param(
            one(says(ServerState.FAILED, "…", failure=LONG, failed_in=ServerState.LOADING)), id="why it fails"
        ),
        pytest.param(Situation((waits("ErrImagePull", LONG),)), id="what the kubelet says"),
        pytest.param(
            Situation(deployment={"conditions": [{**REFUSED["conditions"][0], "message": LONG}]}),
            id="what the API server says",
        ),
        pytest.param(
            one(says(ServerState.READY, engine=LONG, revision=LONG), ready=True), id="the names of things"
        ),
        pytest.param(
            Situation(spec={"resources": {"claims": [{"name": f"{number:063}"} for number in range(16)]}}),
            id="devices",
        ),
        pytest.param(
            Situation((pod(ready=True),), obstacle=Obstacle(Reason.OBJECT_REFUSED, LONG)), id="an obstacle"
        ),
    ],
)
def test_words_without_end_are_cut_to_what_a_status_holds(situation: Situation) -> None:
    status = situation.status()
    assert status.message is not None
    assert len(status.message) <= 32768
    read = RerankModelStatus.model_validate_json(status.model_dump_json(by_alias=True, exclude_none=True))
    assert read == status


def test_a_refused_model_is_told_so_in_its_conditions() -> None:
    verdict = accept(model(weight=5), settings())
    assert isinstance(verdict, Refused)
    found = condition(Situation(spec={"weight": 5}).status(), ConditionType.ACCEPTED)
    assert (found.status, found.reason, found.message) == ("False", Reason.REFUSED, verdict.message)
