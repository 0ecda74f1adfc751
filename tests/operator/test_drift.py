"""Whether a live object still is as it shall be, against what an API server makes of what it is given."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_operator import drift
from tests.operator.given import Manifest, built, golden_manifests, model, settings

GOLDEN = Path(__file__).with_name("golden")
OBJECTS = [
    pytest.param(manifest, id=f"{path.name.removesuffix('.in.yaml')} {manifest['kind']}")
    for path in sorted(GOLDEN.glob("*.in.yaml"))
    for manifest in golden_manifests(path)
]


def deployment() -> Manifest:
    """Return a Deployment of two containers' worth of everything that drifts."""
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    raw = model(
        replicas=2,
        resources={"limits": {"cpu": "1500m", "memory": "0.5Gi"}, "requests": {"cpu": 1}},
        template={"env": [*env, {"name": "EMPTY", "value": ""}], "annotations": {"example.com/note": "ours"}},
    )
    by = settings(server={"image": "example.com/server:1", "imagePullSecrets": [{"name": "registry"}]})
    return built(raw, by)["Deployment"]


def stored(wanted: Manifest) -> Manifest:
    """Return an object as an API server has it: with defaults, and with what others have added."""
    live = copy.deepcopy(wanted)
    live["metadata"] |= {
        "uid": "5a0c0e8e-0000-4000-8000-0000000000ff",
        "resourceVersion": "812",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "rerank-operator", "operation": "Apply"}],
    }
    live["metadata"]["labels"]["argocd.example.com/instance"] = "models"
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "4"
    live["metadata"]["ownerReferences"].append({"kind": "Team", "name": "search", "uid": "another"})
    live["status"] = {"replicas": 1}
    if live["kind"] == "Deployment":
        live["spec"]["template"]["metadata"]["creationTimestamp"] = None
        pod = live["spec"]["template"]["spec"]
        pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}
        pod.setdefault("schedulerName", "default-scheduler")
        container = pod["containers"][0]
        container["terminationMessagePath"] = "/dev/termination-log"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            container[probe]["successThreshold"] = 1
            container[probe]["httpGet"]["scheme"] = "HTTP"
        container["env"].append({"name": "INJECTED", "value": "by somebody"})
        pod["containers"].append({"name": "sidecar", "image": "example.com/proxy:1"})
        pod["volumes"].append({"name": "sidecar", "emptyDir": {}})
    return live


@pytest.mark.parametrize("wanted", OBJECTS)
def test_an_object_holds_that_is_exactly_as_it_shall_be(wanted: Manifest) -> None:
    assert drift.holds(copy.deepcopy(wanted), wanted)


@pytest.mark.parametrize("wanted", OBJECTS)
def test_an_object_holds_with_defaults_and_what_others_have_added(wanted: Manifest) -> None:
    before = copy.deepcopy(wanted)
    assert drift.holds(stored(wanted), wanted)
    assert wanted == before


@pytest.mark.parametrize("wanted", OBJECTS)
def test_every_single_change_of_what_is_wanted_is_noticed(wanted: Manifest) -> None:
    """Each value changed, each value taken away. Only what is empty may be absent: an API server leaves it
    out."""
    live = stored(wanted)
    unnoticed = []
    for path, holder, step in leaves(wanted, live):
        value = holder[step]
        holder[step] = other(value)
        if drift.holds(live, wanted):
            unnoticed.append(f"{path} changed")
        if isinstance(holder, dict) and value not in ({}, [], None, "", False):
            del holder[step]
            if drift.holds(live, wanted):
                unnoticed.append(f"{path} gone")
        holder[step] = value
    assert drift.holds(live, wanted), "everything was put back"
    assert unnoticed == []


@pytest.mark.parametrize("wanted", OBJECTS)
def test_every_item_that_is_taken_out_of_a_list_is_noticed(wanted: Manifest) -> None:
    live = stored(wanted)
    unnoticed = []
    for path, items, place in list_items(wanted, live):
        taken = items.pop(place)
        if drift.holds(live, wanted):
            unnoticed.append(path)
        items.insert(place, taken)
    assert drift.holds(live, wanted), "everything was put back"
    assert unnoticed == []


def leaves(wanted: Any, live: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each value that is wanted and holds no others: its path, and where the live object has it."""
    steps = wanted.items() if isinstance(wanted, dict) else enumerate(wanted)
    for step, value in steps:
        if isinstance(value, dict | list) and value:
            yield from leaves(value, live[step], f"{path}.{step}")
        else:
            yield f"{path}.{step}", live, step


def list_items(wanted: Any, live: Any, path: str = "") -> Iterator[tuple[str, list[Any], int]]:
    """Yield each item of each list that is wanted: its path, the live list, and its place there."""
    for step, value in wanted.items() if isinstance(wanted, dict) else enumerate(wanted):
        if isinstance(value, dict | list):
            yield from list_items(value, live[step], f"{path}.{step}")
        if isinstance(wanted, list):
            yield f"{path}.{step}", live, step


def other(value: object) -> object:
    """Return something else of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case _:
            return "something"


SERVER = ("spec", "template", "spec", "containers", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param((*SERVER, "resources", "requests", "cpu"), "1", id="a whole number in quotes"),
        pytest.param((*SERVER, "resources", "limits", "cpu"), "1.5", id="thousandths written out"),
        pytest.param(
            (*SERVER, "resources", "limits", "memory"), "512Mi", id="another unit of the same amount"
        ),
        pytest.param((*SERVER, "env", 3), {"name": "EMPTY"}, id="an empty text left out"),
        pytest.param(("spec", "template", "spec", "enableServiceLinks"), False, id="a no that is kept"),
        pytest.param(("metadata", "labels", "team"), "search", id="a label of somebody's"),
        pytest.param(
            (*SERVER, "env"),
            [
                {"name": "EMPTY"},
                {"name": "B", "value": "2"},
                {"name": "A", "value": "1"},
                {"name": "HOME", "value": "/tmp"},
            ],
            id="named items in another order",
        ),
    ],
)
def test_what_an_api_server_may_make_of_it_is_no_drift(path: tuple[Any, ...], value: object) -> None:
    assert drift.holds(edited(deployment(), path, value), deployment())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param((*SERVER, "image"), "example.com/server:2", id="an image set by hand"),
        pytest.param((*SERVER, "resources", "limits", "memory"), "512M", id="nearly the same amount"),
        pytest.param((*SERVER, "resources", "limits", "memory"), "much", id="no amount at all"),
        pytest.param((*SERVER, "resources"), {}, id="limits taken away"),
        pytest.param((*SERVER, "env", 1), {"name": "A", "value": "3"}, id="a variable changed"),
        pytest.param((*SERVER, "env"), [], id="all variables taken away"),
        pytest.param((*SERVER, "env"), None, id="variables that are no list"),
        pytest.param((*SERVER, "readinessProbe", "httpGet", "path"), "/", id="a probe asked elsewhere"),
        pytest.param((*SERVER, "livenessProbe"), None, id="a probe taken away"),
        pytest.param((*SERVER, "ports"), [], id="a port taken away"),
        pytest.param((*SERVER, "args", 1), "/tmp/other.json", id="an argument changed"),
        pytest.param(
            (*SERVER, "args"), ["--port", "8000", "--host", "0.0.0.0"], id="arguments in another order"
        ),
        pytest.param(("metadata", "labels", "rerank.dev/model"), "", id="our label emptied"),
        pytest.param(("metadata", "labels"), None, id="all labels taken away"),
        pytest.param(("metadata", "ownerReferences"), [], id="disowned"),
        pytest.param(("spec", "replicas"), 5, id="scaled by hand"),
        pytest.param(("spec", "template", "spec", "enableServiceLinks"), True, id="a no made a yes"),
        pytest.param(("spec", "template", "spec", "imagePullSecrets"), None, id="a pull secret taken away"),
    ],
)
def test_what_somebody_edits_is_drift(path: tuple[Any, ...], value: object) -> None:
    assert not drift.holds(edited(deployment(), path, value), deployment())


def edited(manifest: Manifest, path: tuple[Any, ...], value: object) -> Manifest:
    """Return an object with another value at a path; None takes it away."""
    *above, last = path
    holder: Any = manifest
    for step in above:
        holder = holder[step]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return manifest


def test_mounts_of_one_volume_are_told_apart_by_their_path() -> None:
    mounts = [{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b", "readOnly": True}]
    assert drift.holds({"mounts": [*reversed(mounts), {"name": "x", "mountPath": "/x"}]}, {"mounts": mounts})
    moved = [{"name": "data", "mountPath": "/c"}, mounts[1]]
    assert not drift.holds({"mounts": moved}, {"mounts": mounts})


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        pytest.param("1", 1, True, id="text and number"),
        pytest.param("1000m", "1", True, id="thousandths"),
        pytest.param("1Ki", "1024", True, id="binary"),
        pytest.param("1k", "1e3", True, id="an exponent"),
        pytest.param("1E", "1e18", True, id="a suffix that looks like an exponent"),
        pytest.param("0.5Gi", "512Mi", True, id="half of it"),
        pytest.param("1G", "1Gi", False, id="decimal and binary"),
        pytest.param("1m", "1M", False, id="small and large letters"),
        pytest.param("", "0", False, id="nothing is no amount"),
        pytest.param("1", True, False, id="a truth value is no amount"),
        pytest.param("1e99999999999999999999", "1", False, id="more than a number can be"),
        pytest.param("0xff", "255", False, id="no amount of this grammar"),
    ],
)
def test_two_spellings_of_one_amount_are_the_same(one: object, another: object, same: bool) -> None:
    assert drift.holds({"amount": one}, {"amount": another}) is same
    assert drift.holds({"amount": another}, {"amount": one}) is same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@hypothesis.settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_object_is_what_it_is(manifest: Manifest) -> None:
    assert drift.holds(copy.deepcopy(manifest), manifest)


@hypothesis.settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    st.dictionaries(st.text(max_size=8), JSON, max_size=4),
)
def test_what_others_add_to_an_object_is_theirs(manifest: Manifest, added: Manifest) -> None:
    assert drift.holds({**added, **manifest}, manifest)
