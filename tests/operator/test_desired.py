"""What shall exist for a model. `UPDATE_GOLDEN=1 pytest …` writes the golden files anew."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_api.names import MODEL_LABEL, is_resource_name
from rerank_operator import desired
from rerank_operator.desired.metadata import DIGEST
from rerank_operator.keys import DEPLOYMENT, OWNED, key_of, owner_uid
from rerank_operator.observed import FINGERPRINT
from rerank_operator.settings import Settings
from tests.operator.given import (
    GATEWAY,
    KEY,
    UID,
    Manifest,
    accepted,
    built,
    golden_manifests,
    model,
    settings,
)

GOLDEN = Path(__file__).with_name("golden")
REWRITE = os.environ.get("UPDATE_GOLDEN") == "1"
LONGEST = "a" + "b" * 62
KINDS = {kind.kind for kind in OWNED}


class NoAliases(yaml.SafeDumper):
    """Writes everything out, as kubectl does."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def dumped(manifest: Manifest) -> str:
    return yaml.dump(manifest, Dumper=NoAliases, sort_keys=False, allow_unicode=True, width=110)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in.yaml")), ids=lambda path: path.name)
def test_a_model_becomes_the_objects_in_its_golden_file(path: Path) -> None:
    golden = path.with_name(path.name.replace(".in.yaml", ".out.yaml"))
    result = "---\n".join(map(dumped, golden_manifests(path)))
    if REWRITE:
        golden.write_text(result, encoding="utf-8")
    assert result == golden.read_text(encoding="utf-8")


def everything(raw: Manifest, by: Settings | None = None, address: str | None = GATEWAY) -> list[Manifest]:
    """Return all objects that shall exist for a model."""
    by = by or settings()
    return list(desired.manifests(accepted(raw, by), by, address))


EVERYTHING: Manifest = {
    "replicas": 2,
    "ingress": {"host": "bge.example.com"},
    "template": {"labels": {"team": "search", MODEL_LABEL: "other"}},
}


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        pytest.param("Ingress", KINDS - {"HTTPRoute"}, id="an Ingress"),
        pytest.param("HTTPRoute", KINDS - {"Ingress", "EndpointSlice"}, id="an HTTPRoute"),
    ],
)
def test_everything_is_found_by_its_model_and_goes_with_it(kind: str, kinds: set[str]) -> None:
    manifests = everything(
        model(**EVERYTHING), settings(ingress={"kind": kind, "parentRefs": [{"name": "public"}]})
    )
    assert {manifest["kind"] for manifest in manifests} == kinds
    for manifest in manifests:
        assert key_of(manifest) == KEY
        assert owner_uid(manifest) == UID
        assert "finalizers" not in manifest["metadata"]


def test_the_deployment_is_the_first_that_is_built() -> None:
    assert everything(model(**EVERYTHING))[0]["kind"] == DEPLOYMENT.kind


def test_pods_are_selected_by_the_model_alone_for_a_selector_never_changes() -> None:
    objects = built(model(**EVERYTHING))
    deployment = objects["Deployment"]["spec"]
    for selector in (
        deployment["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
    ):
        assert selector == {MODEL_LABEL: KEY.name}
    assert deployment["template"]["metadata"]["labels"]["team"] == "search"
    assert deployment["template"]["metadata"]["labels"][MODEL_LABEL] == KEY.name


@pytest.mark.parametrize(
    ("change", "rolls_out"),
    [
        pytest.param({"replicas": 3}, False, id="more replicas"),
        pytest.param({"replicas": 0}, False, id="no replicas"),
        pytest.param({"ingress": {"host": "other.example.com"}}, False, id="another host"),
        pytest.param({"profile": "named-only"}, False, id="a profile that says nothing"),
        pytest.param({"weight": 100}, False, id="a default written out"),
        pytest.param({"scoring": {"activation": "sigmoid"}}, True, id="another activation"),
        pytest.param({"names": ["bge", "bge:v2"]}, True, id="another name"),
        pytest.param({"resources": {"limits": {"memory": "8Gi"}}}, True, id="another limit"),
        pytest.param({"cache": {"claim": "models"}}, True, id="another cache"),
        pytest.param({"template": {"labels": {"team": "search"}}}, True, id="another label"),
        pytest.param({"template": {"image": "example.com/server:2"}}, True, id="another image"),
    ],
)
def test_pods_are_replaced_only_where_something_about_a_pod_changes(change: Any, rolls_out: bool) -> None:
    by = settings(profiles={"named-only": {}})
    before, after = (built(model(**spec), by)["Deployment"]["spec"]["template"] for spec in ({}, change))
    assert (before != after) is rolls_out
    fingerprints = {one["metadata"]["annotations"][FINGERPRINT] for one in (before, after)}
    assert len(fingerprints) == 1 + rolls_out


def test_every_change_of_an_object_changes_the_digest_that_it_carries() -> None:
    specs = ({}, {"replicas": 2}, {"replicas": 3}, {"names": ["a"]}, {"ingress": {"host": "a.example.com"}})
    found = [built(model(**spec))["Deployment"]["metadata"]["annotations"][DIGEST] for spec in specs]
    assert len(set(found)) == len(specs) - 1, "a host is no part of the Deployment; the others are"


@pytest.mark.parametrize(
    ("chart", "secret", "own", "wanted"),
    [
        pytest.param(None, None, None, None, id="nobody gives one"),
        pytest.param("chart", None, None, "chart", id="the chart's, for all models"),
        pytest.param("chart", "hub", None, {"name": "hub", "key": "token"}, id="its Secret before it"),
        pytest.param("chart", "hub", "own", "own", id="the author's own variable before all"),
    ],
)
def test_the_hubs_token_is_the_one_that_is_nearest_to_the_model(
    chart: str | None, secret: str | None, own: str | None, wanted: object
) -> None:
    hub: Manifest = {"repo": "BAAI/bge-reranker-v2-m3"}
    if secret is not None:
        hub["tokenSecret"] = {"name": secret, "key": "token"}
    raw = model(source={"huggingFace": hub}, template={"env": _token(own)})
    by = settings(server={"image": "server:1", "env": _token(chart)})
    env = {one["name"]: one for one in _server(built(raw, by))["env"]}
    found = env.get("HF_TOKEN", {})
    assert found.get("value", found.get("valueFrom", {}).get("secretKeyRef")) == wanted


def _token(value: str | None) -> list[Manifest]:
    return [] if value is None else [{"name": "HF_TOKEN", "value": value}]


def test_a_variable_is_there_once() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "HOME", "value": "/elsewhere"}]
    by = settings(server={"image": "server:1", "env": env})
    found = _server(built(model(template={"env": [{"name": "A", "value": "2"}]}), by))["env"]
    assert sorted((one["name"], one["value"]) for one in found) == [("A", "2"), ("HOME", "/elsewhere")]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in.yaml")), ids=lambda path: path.name)
def test_pods_ask_for_no_right_that_a_restricted_namespace_refuses(path: Path) -> None:
    """As the Pod Security Standards list them for `restricted`; host paths and capabilities are asked for
    by authors alone."""
    [deployment] = [one for one in golden_manifests(path) if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["automountServiceAccountToken"] is False
    if "host" not in path.name:
        assert set(container["securityContext"]["capabilities"]) == {"drop"}
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_a_server_can_write_where_it_has_to_on_a_read_only_root() -> None:
    container = _server(built(model()))
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/cache/rerank"}
    assert container["args"][-2:] == ["--cache-dir", "/var/cache/rerank"]


def test_every_mount_has_its_volume_and_every_probe_and_service_its_port() -> None:
    raw = model(source={"pvc": {"claim": "models"}})
    objects = built(raw)
    pod, container = objects["Deployment"]["spec"]["template"]["spec"], _server(objects)
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} <= ports


def test_a_pod_is_given_the_time_to_finish_what_it_has_admitted() -> None:
    pod = built(model())["Deployment"]["spec"]["template"]["spec"]
    leaves = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > leaves + 300
    own = model(template={"terminationGracePeriodSeconds": 0})
    assert built(own)["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("b", id="one letter"),
        pytest.param("b" * 40, id="the longest that is not cut"),
        pytest.param("b" * 39 + "-c", id="cut behind a dash"),
        pytest.param("b" * 36 + "-----c", id="cut within dashes"),
        pytest.param(LONGEST, id="as long as a name may be"),
    ],
)
def test_every_object_has_a_name_that_its_kind_may_have(name: str) -> None:
    manifests = everything(model(name, ingress={"host": "a.example.com"}))
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    assert len(names) == len(manifests) == 5
    assert all(is_resource_name(name) for _, name in names)


def test_models_whose_names_begin_the_same_have_hosts_of_their_own() -> None:
    names = [
        manifest["metadata"]["name"]
        for name in ("b" * 62 + "c", "b" * 62 + "d", "b", "b-gateway")
        for manifest in everything(model(name, ingress={"host": "a.example.com"}))
        if manifest["kind"] == "Service"
    ]
    assert len(set(names)) == 8, "the model's own, and one that stands for the gateway"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        pytest.param("10.96.0.17", "IPv4", id="of four bytes"),
        pytest.param("fd00:10:96::11", "IPv6", id="of sixteen"),
    ],
)
def test_an_ingress_leads_to_the_gateways_own_address(address: str, kind: str) -> None:
    raw = model(ingress={"host": "a.example.com"})
    by_kind = {one["kind"]: one for one in everything(raw, address=address)}
    endpoints = by_kind["EndpointSlice"]
    assert (endpoints["addressType"], endpoints["endpoints"][0]["addresses"]) == (kind, [address])
    service = endpoints["metadata"]["labels"]["kubernetes.io/service-name"]
    [path] = by_kind["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == service
    assert by_kind["Service"]["metadata"]["name"] == service


@pytest.mark.parametrize(
    ("namespace", "ingress"),
    [
        pytest.param("rerank", {}, id="beside the gateway"),
        pytest.param(
            "search",
            {"kind": "HTTPRoute", "parentRefs": [{"name": "public"}]},
            id="a route can name another namespace",
        ),
    ],
)
def test_nothing_stands_for_the_gateway_where_it_need_not(namespace: str, ingress: Manifest) -> None:
    raw = model(namespace=namespace, ingress={"host": "a.example.com"})
    manifests = everything(raw, settings(ingress=ingress))
    assert [one["metadata"]["name"] for one in manifests if one["kind"] == "Service"] == [KEY.name]
    assert not [one for one in manifests if one["kind"] == "EndpointSlice"]


@pytest.mark.parametrize(
    ("rollout", "wanted"),
    [
        pytest.param({}, {"maxSurge": 1, "maxUnavailable": 0}, id="a replacement first, by default"),
        pytest.param(
            {"maxSurge": 0, "maxUnavailable": "25%"},
            {"maxSurge": 0, "maxUnavailable": "25%"},
            id="without a spare GPU",
        ),
    ],
)
def test_replicas_are_replaced_as_the_settings_say(rollout: Manifest, wanted: Manifest) -> None:
    by = settings(server={"image": "example.com/server:1", "rollout": rollout})
    assert built(model(), by)["Deployment"]["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": wanted,
    }


def test_controllers_are_told_that_the_gateway_speaks_tls() -> None:
    where = {"namespace": "rerank", "service": "rerank-gateway", "url": "https://x", "port": 443}
    by = settings(gateway={**where, "scheme": "https"})
    built_for_it = everything(model(ingress={"host": "a.example.com"}), by)
    ports = [
        manifest.get("ports", manifest.get("spec", {}).get("ports"))[0]
        for manifest in built_for_it
        if manifest["kind"] in {"EndpointSlice", "Service"} and manifest["metadata"]["name"] != KEY.name
    ]
    assert [(port["name"], port["port"], port["appProtocol"]) for port in ports] == [
        ("https", 443, "https")
    ] * 2


def test_nothing_leads_to_a_gateway_whose_address_nobody_knows() -> None:
    manifests = everything(model(ingress={"host": "a.example.com"}), address=None)
    assert [one["kind"] for one in manifests] == ["Deployment", "Service"]


def test_an_ingress_beside_the_gateway_names_its_service() -> None:
    ingress = built(model(namespace="rerank", ingress={"host": "a.example.com"}))["Ingress"]
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "rerank-gateway", "port": {"number": 80}}


def test_labels_of_objects_are_ones_that_kubernetes_takes() -> None:
    for manifest in built(model(LONGEST, **EVERYTHING)).values():
        for value in manifest["metadata"]["labels"].values():
            assert re.fullmatch("[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)


def _server(objects: dict[str, Manifest]) -> Manifest:
    [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    found: Manifest = container
    return found
