"""How models stand, in words, and what the gateway is told of them: no process."""

from dataclasses import replace

import pytest

from rerank_api.score_scale import ScoreScale
from rerank_api.status import ModelState, ServerState, ServerStatus
from rerank_cli.up.backoff import Crash
from rerank_cli.up.standing import as_routed, served, standings
from rerank_cli.up.world import Phase, Replica, Slot, Version, World
from rerank_gateway.models import Facts

ONE = Version("bge", "old", ("bge", "BAAI/bge"), 1, "{}")
TWO = replace(ONE, replicas=2)
NEW = Version("bge", "new", ("bge", "bge:v2"), 1, "{}")


def replica(
    version: Version, state: ServerState | None, *, index: int = 0, progress: float | None = None
) -> Replica:
    phase = Phase.READY if state is ServerState.READY else Phase.STARTING
    status = None
    if state is not None:
        status = ServerStatus(state=state, message=f"message of {state}", progress=progress)
    slot = Slot(version.model, version.fingerprint, index)
    return Replica(1 + index, slot, 9000 + index, phase, 0.0, status, 0.0)


@pytest.mark.parametrize(
    ("server", "model"),
    [
        pytest.param(None, ModelState.PENDING, id="no answer yet"),
        pytest.param(ServerState.DOWNLOADING, ModelState.DOWNLOADING, id="downloading"),
        pytest.param(ServerState.LOADING, ModelState.LOADING, id="loading"),
        pytest.param(ServerState.VERIFYING, ModelState.VERIFYING, id="verifying"),
        pytest.param(ServerState.WARMING, ModelState.VERIFYING, id="warming has no word of its own"),
        pytest.param(ServerState.READY, ModelState.READY, id="ready"),
        pytest.param(ServerState.FAILED, ModelState.FAILED, id="failed"),
    ],
)
def test_a_model_stands_as_its_only_server_does(server: ServerState | None, model: ModelState) -> None:
    (standing,) = standings(World((ONE,), {"bge": ONE}, (replica(ONE, server),)))
    assert standing.state is model
    assert standing.message
    if server is not None:
        assert standing.message == f"message of {server}"


def test_a_model_without_replicas_is_idle_and_says_how_to_wake_it() -> None:
    none = replace(ONE, replicas=0)
    (standing,) = standings(World((none,), {"bge": none}))
    assert standing.state is ModelState.IDLE
    assert "spec.replicas" in standing.message


def test_some_ready_replicas_are_degraded_and_take_traffic() -> None:
    replicas = (replica(TWO, ServerState.READY), replica(TWO, ServerState.LOADING, index=1, progress=0.5))
    (standing,) = standings(World((TWO,), {"bge": TWO}, replicas))
    assert standing.state is ModelState.DEGRADED
    assert standing.ports == (9000,)
    assert standing.message == "1 of 2 replicas ready; the next is loading: message of loading"


def test_the_gateway_is_told_what_the_servers_of_the_serving_version_say_of_the_model() -> None:
    loaded = replace(
        replica(ONE, ServerState.READY),
        status=ServerStatus(
            state=ServerState.READY,
            message="Ready",
            family="embedding",
            max_length=256,
            score_scale=ScoreScale.COSINE,
        ),
    )
    coming = replica(NEW, ServerState.LOADING, index=1)
    models = standings(World((NEW,), {"bge": ONE}, (coming, loaded)))
    told = served(models, {"bge": "bge"}, {"bge": 1})
    assert {model.name: model.facts for model in told} == dict.fromkeys(
        ("bge", "BAAI/bge", "bge:v2"), Facts("embedding", 256, "cosine")
    )
    [starting] = standings(World((ONE,), {"bge": ONE}, (replica(ONE, ServerState.LOADING),)))
    assert starting.facts == Facts()


@pytest.mark.parametrize(
    ("listed", "shown"),
    [
        pytest.param({}, ModelState.LOADING, id="the gateway does not know it"),
        pytest.param({"bge": ModelState.READY}, ModelState.LOADING, id="one of its names is not there yet"),
        pytest.param(
            {"bge": ModelState.READY, "BAAI/bge": ModelState.LOADING}, ModelState.LOADING, id="on its way"
        ),
        pytest.param({"bge": ModelState.READY, "BAAI/bge": ModelState.READY}, ModelState.READY, id="routed"),
        pytest.param(
            {"bge": ModelState.DEGRADED, "BAAI/bge": ModelState.DEGRADED},
            ModelState.READY,
            id="routed, while the list has older news of the other replicas",
        ),
    ],
)
def test_a_model_is_shown_as_ready_once_the_gateway_sends_requests_there(
    listed: dict[str, ModelState], shown: ModelState
) -> None:
    (standing,) = standings(World((ONE,), {"bge": ONE}, (replica(ONE, ServerState.READY),)))
    assert as_routed(standing, {(name, "bge"): state for name, state in listed.items()}).state is shown


def test_what_is_not_ready_is_shown_as_it_is_whatever_the_gateway_knows() -> None:
    (standing,) = standings(World((ONE,), {"bge": ONE}, (replica(ONE, ServerState.LOADING),)))
    assert as_routed(standing, {(name, "bge"): ModelState.READY for name in ONE.names}) == standing


def test_a_crashed_server_is_told_in_words_until_another_is_there() -> None:
    crash = Crash(1, 5.0, "was killed (SIGKILL)")
    world = World((ONE,), {"bge": ONE}, (), {Slot("bge", "old", 0): crash})
    (standing,) = standings(world)
    assert standing.state is ModelState.FAILED
    assert "was killed (SIGKILL)" in standing.message
    (again,) = standings(replace(world, replicas=(replica(ONE, ServerState.LOADING),)))
    assert again.state is ModelState.LOADING


@pytest.mark.parametrize(
    "state", [pytest.param(state, id=state.value) for state in ServerState if state is not ServerState.READY]
)
def test_what_serves_stays_ready_whatever_its_replacement_does(state: ServerState) -> None:
    replicas = (replica(ONE, ServerState.READY), replica(NEW, state, index=0))
    (standing,) = standings(World((NEW,), {"bge": ONE}, replicas))
    assert standing.state is ModelState.READY
    assert standing.ports == (9000,)
    assert standing.names == ("bge", "BAAI/bge")
    assert standing.coming == ("bge:v2",)
    assert f"message of {state}" in standing.message


def test_each_public_name_is_an_entry_of_its_own() -> None:
    models = standings(World((ONE,), {"bge": ONE}, (replica(ONE, ServerState.READY),)))
    entries = served(models, {"bge": ["bge"], "BAAI/bge": ["bge"]}, {"bge": 7})
    assert [entry.name for entry in entries] == ["BAAI/bge", "bge"]
    assert {(entry.model, entry.created, entry.endpoints[0].port) for entry in entries} == {("bge", 7, 9000)}


def test_a_name_that_only_the_replacement_knows_has_no_endpoint_yet() -> None:
    replicas = (replica(ONE, ServerState.READY), replica(NEW, ServerState.LOADING))
    models = standings(World((NEW,), {"bge": ONE}, replicas))
    granted = {"bge": ["bge"], "bge:v2": ["bge"]}
    entries = {entry.name: entry for entry in served(models, granted, {"bge": 0})}
    assert entries["bge"].endpoints
    assert entries["bge:v2"].endpoints == ()
    assert entries["bge:v2"].state is ModelState.LOADING


def test_a_name_that_moves_to_another_model_is_served_by_the_old_owner_until_the_new_one_is_ready() -> None:
    heir = Version("heir", "one", ("bge",), 1, "{}")
    before = replace(ONE, names=("bge",))
    after = replace(ONE, fingerprint="renamed", names=("retired",))
    owners = {"retired": ["bge"], "bge": ["heir"]}
    created = {"bge": 0, "heir": 0}
    heir_before = replace(heir, fingerprint="zero", names=("heir",))
    serving = {"bge": before, "heir": heir_before}
    ready = (replica(before, ServerState.READY), replica(heir_before, ServerState.READY))
    moving = {
        entry.name: entry.model
        for entry in served(standings(World((after, heir), serving, ready)), owners, created)
    }
    assert moving["bge"] == "bge"
    took_over = {"bge": before, "heir": heir}
    ready = (replica(before, ServerState.READY), replica(heir, ServerState.READY))
    moved = {
        entry.name: entry.model
        for entry in served(standings(World((after, heir), took_over, ready)), owners, created)
    }
    assert moved["bge"] == "heir"


def test_a_model_whose_names_all_belong_to_others_says_so() -> None:
    nameless = replace(ONE, names=(), replicas=0, remark="Another model has this name already.")
    (standing,) = standings(World((nameless,), {"bge": nameless}))
    assert standing.state is ModelState.FAILED
    assert standing.message == "Another model has this name already."
    assert served((standing,), {}, {"bge": 0}) == ()


STABLE = Version("stable", "one", ("bge",), 1, "{}", weight=95)
CANARY = Version("canary", "one", ("bge", "canary"), 1, "{}", weight=5)
AGES = {"stable": 1, "canary": 2}
SHARED = {"bge": ["stable", "canary"], "canary": ["canary"]}


def test_a_name_that_two_share_has_an_entry_of_each_with_its_weight() -> None:
    replicas = (replica(STABLE, ServerState.READY), replica(CANARY, ServerState.LOADING))
    models = standings(World((STABLE, CANARY), {"stable": STABLE, "canary": CANARY}, replicas))
    entries = [
        (entry.name, entry.model, entry.weight, bool(entry.endpoints))
        for entry in served(models, SHARED, AGES)
    ]
    assert entries == [
        ("bge", "stable", 95, True),
        ("bge", "canary", 5, False),
        ("canary", "canary", 5, False),
    ]


def test_a_weight_counts_at_once_though_the_servers_of_the_change_are_not_ready() -> None:
    before = replace(STABLE, fingerprint="zero", weight=None)
    replicas = (replica(before, ServerState.READY), replica(CANARY, ServerState.READY))
    models = standings(World((STABLE, CANARY), {"stable": before, "canary": CANARY}, replicas))
    weights = {entry.model: entry.weight for entry in served(models, SHARED, AGES) if entry.name == "bge"}
    assert weights == {"stable": 95, "canary": 5}


def test_who_serves_a_name_by_the_way_does_not_share_it() -> None:
    """Its new servers will not answer to it any more."""
    leaving = replace(CANARY, fingerprint="two", names=("canary",))
    replicas = (replica(STABLE, ServerState.READY), replica(CANARY, ServerState.READY))
    models = standings(World((STABLE, leaving), {"stable": STABLE, "canary": CANARY}, replicas))
    entries = served(models, {"bge": ["stable"], "canary": ["canary"]}, AGES)
    assert [(entry.name, entry.model) for entry in entries] == [("bge", "stable"), ("canary", "canary")]
