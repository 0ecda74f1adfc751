"""A public name that two models share by weight: both are asked, and either takes all when the other goes."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import model
from tests.cluster.harness.traffic import Door, Traffic, assert_none_failed, best_score, traffic

NAME = "acme/shared"
SAMPLE = 100
FEW = 3
"""Clients that leave the two cores of a test cluster time to start a server."""
MORE = 40
"""Answers in a row that no model gives by chance while another has a part of them."""


@dataclass(frozen=True)
class Pair:
    """Two models that share a name; answers tell them apart: only the second cuts documents."""

    kube: Kube
    door: Door
    scores: dict[str, float]
    """What each gives the best of the example's documents, by the model."""

    def weigh(self, **weights: int) -> None:
        for name, weight in weights.items():
            self.kube.patch("rerankmodel", name, {"spec": {"weight": weight}})

    def counts(self, seen: Counter[float]) -> dict[str, int]:
        """Return who answered how often; nobody else may have."""
        assert set(seen) <= set(self.scores.values()), seen
        return {name: seen[score] for name, score in self.scores.items()}

    def split(self) -> dict[str, int]:
        """Ask so often by the name, and return who answered how often."""
        with traffic(self.door, NAME) as seen:
            eventually(lambda: seen.answered >= SAMPLE, "answers", seconds=600)
        assert_none_failed(seen)
        return self.counts(seen.best)

    def who_answers(self, seen: Traffic) -> list[str]:
        """Return who answers so many more requests."""
        before = self.counts(seen.best)
        wanted = sum(before.values()) + MORE
        eventually(lambda: seen.answered >= wanted, "more answers", seconds=600)
        after = self.counts(seen.best)
        return [name for name in after if after[name] > before[name]]

    def told(self, name: str) -> dict[str, Any]:
        """Return what a model's status says of the shared name."""
        names = self.kube.status(name).get("names", ())
        return next((dict(one) for one in names if one["name"] == NAME), {})

    def listed(self) -> list[dict[str, Any]]:
        """Return what the gateways list under the shared name, each at least once."""
        return [told.get(NAME, {}) for told in self.door.lists()]

    def pods(self, name: str) -> list[str]:
        return sorted(pod["metadata"]["uid"] for pod in self.kube.pods(name))


def is_a_quarter(split: dict[str, int], name: str) -> bool:
    """Say whether a model got a quarter; by chance one sample in a million is further off."""
    off = 5 * (SAMPLE * 1 / 4 * 3 / 4) ** 0.5
    return abs(split[name] - sum(split.values()) / 4) < off


@pytest.fixture(scope="module")
def pair(shared_kube: Kube, door: Door) -> Pair:
    kube = shared_kube
    # Of two that are made in one second the first by name is the older.
    kube.apply(
        model("first", names=[NAME, "acme/first"], weight=3),
        model("second", names=[NAME, "acme/second"], weight=1, scoring={"maxLength": 12}),
    )
    for name in ("first", "second"):
        kube.ready(name)
    scores = {name: best_score(door.answered(f"acme/{name}")) for name in ("first", "second")}
    assert len(set(scores.values())) == 2
    pair = Pair(kube, door, scores)
    eventually(
        lambda: all(len(one.get("shared_by", ())) == 2 and one["state"] == "Ready" for one in pair.listed()),
        "every gateway to have both behind the name",
        pair.listed,
    )
    return pair


def test_both_are_asked_by_weight_and_status_and_list_say_who_shares_what(pair: Pair) -> None:
    split = pair.split()
    print(split)
    assert is_a_quarter(split, "second"), split
    ours = pair.kube.namespace
    eventually(
        lambda: pair.told("first") == {
            "name": NAME, "accepted": True,
            "message": f"Shared by weight with {ours}/second (1); spec.weight here is 3.",
        },
        "the status of the first to say it",
        lambda: pair.told("first"),
    )  # fmt: skip
    eventually(
        lambda: pair.told("second") == {
            "name": NAME, "accepted": True,
            "message": f"Shared by weight with {ours}/first (3); spec.weight here is 1.",
        },
        "the status of the second to say it",
        lambda: pair.told("second"),
    )  # fmt: skip
    for listed in pair.listed():
        assert listed["owned_by"] == f"{ours}/first"
        assert listed["shared_by"] == [
            {"model": f"{ours}/first", "weight": 3, "state": "Ready"},
            {"model": f"{ours}/second", "weight": 1, "state": "Ready"},
        ]


def test_a_changed_weight_counts_and_replaces_no_server(pair: Pair) -> None:
    before = {name: pair.pods(name) for name in ("first", "second")}
    generations = {name: pair.kube.get("deployment", name)["metadata"]["generation"] for name in before}
    try:
        pair.weigh(first=1, second=3)
        # Gateways hear of it by themselves, and until then go on as before.
        eventually(lambda: is_a_quarter(pair.split(), "first"), "the new weights", seconds=300)
        eventually(
            lambda: "spec.weight here is 3" in pair.told("second").get("message", ""), "the status to follow"
        )
        assert {name: pair.pods(name) for name in before} == before
        assert {
            name: pair.kube.get("deployment", name)["metadata"]["generation"] for name in before
        } == generations
    finally:
        pair.weigh(first=3, second=1)


def test_one_that_is_scaled_to_zero_and_woken_or_deleted_leaves_all_to_the_other_without_a_failed_request(
    pair: Pair,
) -> None:
    kube, ours = pair.kube, pair.kube.namespace
    with traffic(pair.door, NAME, FEW) as seen:
        kube.patch("rerankmodel", "first", {"spec": {"replicas": 0}})
        kube.says("first", "ScaledToZero")
        eventually(lambda: pair.who_answers(seen) == ["second"], "the second to be asked alone", seconds=240)
        eventually(
            lambda: all(
                one["state"] == "Degraded"
                and [part["state"] for part in one["shared_by"]] == ["Idle", "Ready"]
                for one in pair.listed()
            ),
            "every gateway to list it so",
            pair.listed,
        )
        assert pair.told("second")["message"].startswith(f"Shared by weight with {ours}/first")

        kube.patch("rerankmodel", "first", {"spec": {"replicas": 1}})
        kube.ready("first")
        before = pair.counts(seen.best)["first"]
        eventually(lambda: pair.counts(seen.best)["first"] > before, "the first to be asked again")

        # The older one goes, and the name is the other's alone.
        kube("delete", "rerankmodel", "first", "--wait=false")
        eventually(lambda: kube.pods("first") == [], "its pods to end", lambda: kube.pods("first"), 240)
        assert pair.who_answers(seen) == ["second"]
    assert_none_failed(seen)
    eventually(
        lambda: pair.told("second") == {"name": NAME, "accepted": True},
        "the other's status to say that it is alone",
        lambda: pair.told("second"),
    )
    for listed in pair.listed():
        assert (listed["owned_by"], listed["state"]) == (f"{ours}/second", "Ready")
        assert "shared_by" not in listed
