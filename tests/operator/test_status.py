"""A model's status around how it stands: conditions, numbers, names, and what outlives a replica."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rerank_api import name_sharing
from rerank_api.name_sharing import Claim
from rerank_api.names import seniority
from rerank_api.rerank_model import RerankModelStatus, VerificationResult
from rerank_api.score_scale import ScoreScale
from rerank_api.status import ConditionType, ModelState, ServerState, Verification
from rerank_operator.accept import Refused, accept
from rerank_operator.keys import Key
from rerank_operator.pods import Obstacle, Reason
from rerank_operator.status import runnable
from tests.operator.given import ELSEWHERE, KEY, NOW, model, pod, settings
from tests.operator.situation import (
    CRASH,
    LOADING,
    OTHER,
    READY,
    REFUSED,
    STOPPED,
    WRONG,
    Situation,
    claim,
    condition,
    replica,
    says,
    waits,
)


def test_a_conditions_time_moves_only_when_its_status_flips() -> None:
    hour = timedelta(hours=1)
    starting = Situation((pod(),)).status()
    loading = replace(replica(LOADING), before=starting).status(hour)
    ready = replace(replica(READY, ready=True), before=loading).status(2 * hour)
    gone = replace(replica(LOADING), before=ready, generation=2).status(3 * hour)
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
            replica(READY, ready=True),
            "True",
            Reason.VERIFIED,
            "12 scores compared, the largest deviation is 0.0012.",
            id="all agree",
        ),
        pytest.param(
            replica(says(ServerState.READY, verification=WRONG), ready=True),
            "False",
            Reason.VERIFICATION_FAILED,
            "12 scores compared, the largest deviation is 0.9.",
            id="wrong, and not required",
        ),
        pytest.param(
            replica(
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
    verified = replica(READY, ready=True).status()
    silent = Situation((pod(ready=True),), before=verified)
    assert silent.status() == verified
    gone = Situation((pod(),), before=verified)
    assert condition(gone.status(), ConditionType.VERIFIED).status == "Unknown"


def test_progress_is_written_in_whole_percents_and_only_while_something_is_under_way() -> None:
    def percent(progress: float | None) -> int | None:
        return replica(says(ServerState.LOADING, "Reading", progress=progress)).status().progress_percent

    shares = (None, 0.0, 0.4301, 0.4399, 0.43, 0.29, 1.0)
    assert [percent(share) for share in shares] == [None, 0, 43, 43, 43, 29, 100]
    ready = replace(replica(READY, ready=True), before=replica(LOADING).status()).status()
    assert ready.progress_percent is None


def test_what_a_server_says_of_its_model_outlives_it() -> None:
    facts = {"family": "embedding", "max_length": 256, "score_scale": ScoreScale.COSINE}
    told = replica(says(ServerState.READY, "Ready", **facts), ready=True).status()
    assert (told.family, told.max_length, told.score_scale) == ("embedding", 256, "cosine")
    gone = replace(replica(LOADING), before=told).status()
    assert (gone.family, gone.max_length, gone.score_scale) == ("embedding", 256, "cosine")
    assert Situation().status().score_scale is None


def test_a_reason_that_another_version_of_the_operator_gave_stops_nobody() -> None:
    verified = replica(READY, ready=True).status()
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
            Situation((pod(ready=True),), spec=ELSEWHERE),
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
    status = replace(replica(READY, ready=True), deployment={"replicas": 3}).status()
    assert (status.replicas, status.ready_replicas) == (3, 1)
    assert (status.engine, status.revision) == ("padded-cpu", "main-1")
    assert status.verification == VerificationResult(checked=12, max_deviation=0.00123, passed=True)
    assert status.selector == "rerank.dev/model=bge"


def test_facts_of_a_replica_outlive_it() -> None:
    before = replica(READY, ready=True).status()
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
        "The older model search/older has this name: choose another in spec.names, or remove it there; `bge` "
        "is a model's own name (metadata.name), and such are not shared."
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
    assert runnable(names, KEY, {name: (claim(key),) for name, key in holders.items()}) is runs


@pytest.mark.parametrize(
    ("own", "others", "accepted", "told"),
    [
        pytest.param(
            95, {OTHER: None}, False, "set spec.weight on search/older too to share it.", id="taken"
        ),
        pytest.param(
            95,
            {OTHER: 5},
            True,
            "Shared by weight with search/older (5); spec.weight here is 95.",
            id="shared",
        ),
        pytest.param(
            0,
            {OTHER: 5, Key("search", "third"): 1},
            True,
            "Shared by weight with search/older (5), search/third (1); spec.weight here is 0, and so no "
            "request by this name.",
            id="shared, without a part",
        ),
        pytest.param(0, {}, True, "spec.weight is 0, and so no request by this name.", id="alone at 0"),
        pytest.param(5, {}, True, None, id="alone"),
    ],
)
def test_a_name_says_with_whom_it_is_shared(
    own: int, others: dict[Key, int | None], accepted: bool, told: str | None
) -> None:
    mine = Claim(seniority("2026-01-01T00:00:00Z", *KEY), *KEY, own)
    claims = [mine, *(claim(key, weight) for key, weight in others.items())]
    held = name_sharing.holders("shared", claims)
    status = Situation(spec={"weight": own}, names=("shared",), holders={"shared": held}).status()
    [name] = status.names
    assert (name.accepted, status.served_names) == (accepted, "shared" if accepted else None)
    assert (name.message or "").endswith(told or "")
    assert bool(name.message) is bool(told)
    found = condition(status, ConditionType.ACCEPTED)
    expected = ("True", Reason.ACCEPTED) if accepted else ("False", Reason.NAME_TAKEN)
    assert (found.status, found.reason) == expected


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
        pytest.param(ELSEWHERE, {}, None, id="nowhere, for it is refused"),
    ],
)
def test_clients_are_told_where_to_ask(spec: dict[str, Any], by: dict[str, Any], url: str | None) -> None:
    assert Situation(spec=spec, settings=settings(**by)).status().url == url


@pytest.mark.parametrize(
    ("holder", "reason", "url"),
    [
        pytest.param(KEY, Reason.ACCEPTED, "http://bge.example.com", id="its own"),
        pytest.param(OTHER, Reason.NAME_TAKEN, "http://rerank-gateway.rerank.svc", id="an older model's"),
    ],
)
def test_a_model_whose_host_another_has_is_accepted_and_asked_at_the_gateway(
    holder: Key, reason: Reason, url: str
) -> None:
    situation = Situation(spec={"ingress": {"host": "bge.example.com"}}, host_holder=holder)
    found = condition(situation.status(), ConditionType.ACCEPTED)
    assert (found.status, found.reason) == ("True", reason)
    assert situation.status().url == url


LONG = "word " * 20_000


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(replica(says(ServerState.LOADING, LONG)), id="what a server says"),
        pytest.param(
            replica(says(ServerState.FAILED, "…", failure=LONG, failed_in=ServerState.LOADING)),
            id="why it fails",
        ),
        pytest.param(Situation((waits("ErrImagePull", LONG),)), id="what the kubelet says"),
        pytest.param(
            Situation(deployment={"conditions": [{**REFUSED["conditions"][0], "message": LONG}]}),
            id="what the API server says",
        ),
        pytest.param(
            replica(says(ServerState.READY, engine=LONG, revision=LONG), ready=True), id="the names of things"
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
    verdict = accept(model(**ELSEWHERE), settings())
    assert isinstance(verdict, Refused)
    found = condition(Situation(spec=ELSEWHERE).status(), ConditionType.ACCEPTED)
    assert (found.status, found.reason, found.message) == ("False", Reason.REFUSED, verdict.message)
