"""What helm makes of the chart. `UPDATE_GOLDEN=1 pytest …` writes the golden files anew."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_gateway import __main__ as gateway
from rerank_gateway.kubernetes.objects import PEERS_PORT_NAME
from rerank_operator import __main__ as operator
from rerank_operator import settings
from rerank_operator.handlers import watched
from rerank_operator.keys import CORE_EVENT, EVENT, MODEL, OWNED, POD
from rerank_operator.leader import LEASE

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
REWRITE = os.environ.get("UPDATE_GOLDEN") == "1"
CASES = [pytest.param(path, id=path.name) for path in sorted(GOLDEN.glob("*.values.yaml"))]

HTTP_ROUTES = "gateway: {models: {ingress: {kind: HTTPRoute, parentRefs: [{name: public}]}}}"
NARROW = "{watchNamespaces: [team-a, team-b], crds: {install: false}, rbac: {aggregateRoles: false}}"

PROGRAMS = {"rerank_operator": operator, "rerank_gateway": gateway}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def deployments(objects: dict[Any, Any]) -> dict[str, Any]:
    """The pod templates of a rendering, by the name of their Deployment."""
    return {
        name: manifest["spec"]["template"]
        for (kind, _, name), manifest in objects.items()
        if kind == "Deployment"
    }


def containers(template: dict[str, Any]) -> dict[str, Any]:
    """The containers of a pod template, by name."""
    return {container["name"]: container for container in template["spec"]["containers"]}


def settings_of(objects: dict[Any, Any], name: str = "rerank-operator") -> settings.Settings:
    """What the operator would read."""
    return settings.parse(objects["ConfigMap", "rerank", name]["data"]["settings.yaml"])


def granted(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """The verbs of a role, by group and resource."""
    return {
        (group, resource): set(rule["verbs"])
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("path", CASES)
def test_values_become_the_objects_in_their_golden_file(helm, parse_objects, path: Path) -> None:
    golden = path.with_name(path.name.replace(".values.yaml", ".rendered.yaml"))
    documents = helm.text(path.read_text()).split("\n---\n")
    # The definitions are compared with crds/, elsewhere.
    text = "\n---\n".join(one.strip() for one in documents if "/templates/crds.yaml" not in one) + "\n"
    if REWRITE:
        golden.write_text(text)
    assert parse_objects(text) == parse_objects(golden.read_text())


@pytest.mark.parametrize("path", CASES)
def test_helm_finds_nothing_to_complain_about(helm, chart: Path, path: Path) -> None:
    done = helm.run("lint", "--strict", str(chart), values=path.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES)
def test_the_operator_can_read_its_settings(helm, path: Path) -> None:
    read = settings_of(helm.objects(path.read_text()))
    given = yaml.safe_load(path.read_text()) or {}
    assert list(read.namespaces) == given.get("watchNamespaces", [])
    assert read.profiles.keys() == given.get("profiles", {}).keys()
    assert read.gateway.service == "rerank-gateway"


@pytest.mark.parametrize("path", CASES)
def test_every_pod_is_as_restricted_as_kubernetes_can_ask(helm, path: Path) -> None:
    """Kubernetes' Pod Security Standards, level `restricted`, and a file system that nobody writes to."""
    for template in deployments(helm.objects(path.read_text())).values():
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in template["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        for volume in template["spec"]["volumes"]:
            assert volume.keys() - {"name"} <= {"configMap", "emptyDir", "projected"}


def test_with_a_certificate_tls_is_spoken_by_all_who_reach_the_gateway(helm) -> None:
    values = "gateway: {tls: {secretName: gateway-tls}, ingress: {enabled: true, hosts: [a.example.com]}}"
    objects = helm.objects(values)
    programs = containers(deployments(objects)["rerank-gateway"])
    assert programs["envoy"]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    (given,) = [a for a in programs["envoy"]["args"] if a.startswith("--tls-dir=")]
    (mount,) = [m for m in programs["envoy"]["volumeMounts"] if m["name"] == "certificate"]
    assert mount["mountPath"] == given.partition("=")[2]
    assert "subPath" not in mount  # such a mount is never renewed
    assert "certificate" not in {m["name"] for m in programs["agent"]["volumeMounts"]}
    (port,) = objects["Service", "rerank", "rerank-gateway"]["spec"]["ports"]
    assert (port["name"], port["port"]) == ("https", 443)
    (rule,) = objects["Ingress", "rerank", "rerank-gateway"]["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"]["port"] == {"name": port["name"]}
    assert settings_of(objects).gateway.port == port["port"]


@pytest.mark.parametrize("seconds", [1, 120, 300])
def test_everything_that_waits_for_a_request_follows_from_the_longest_one(helm, seconds: int) -> None:
    """Each outlasts the one before: Envoy's timeout, the route's, the drain, the agent, kubelet."""
    route = "httpRoute: {enabled: true, parentRefs: [{name: p}]}"
    models = "models: {ingress: {kind: HTTPRoute, parentRefs: [{name: p}]}}"
    values = f"gateway: {{limits: {{requestTimeoutSeconds: {seconds}}}, {route}, {models}}}"
    objects = helm.objects(values)
    pod = deployments(objects)["rerank-gateway"]
    programs = containers(pod)

    def given(words: list[str], name: str) -> int:
        return int(next(word for word in words if word.startswith(f"{name}=")).partition("=")[2])

    (rule,) = objects["HTTPRoute", "rerank", "rerank-gateway"]["spec"]["rules"]
    waits = (
        given(programs["envoy"]["args"], "--request-timeout-s"),
        int(rule["timeouts"]["request"].removesuffix("s")),
        given(programs["envoy"]["lifecycle"]["preStop"]["exec"]["command"], "--limit-s"),
        given(programs["agent"]["args"], "--linger-s"),
        pod["spec"]["terminationGracePeriodSeconds"],
    )
    assert waits == tuple(seconds + more for more in (0, 10, 20, 30, 40))
    assert settings_of(objects).ingress.timeout == rule["timeouts"]["request"]


@pytest.mark.parametrize(("given", "used"), [("45s", "45s"), ('""', None)])
def test_a_route_s_timeout_may_be_another_or_the_controller_s(helm, given: str, used: str | None) -> None:
    models = f"models: {{ingress: {{kind: HTTPRoute, parentRefs: [{{name: p}}], timeout: {given}}}}}"
    assert settings_of(helm.objects(f"gateway: {{{models}}}")).ingress.timeout == used


def test_limits_reach_envoy_as_whole_numbers(helm) -> None:
    """Helm writes large numbers as 1.048576e+07 if it is let."""
    arguments = containers(deployments(helm.objects())["rerank-gateway"])["envoy"]["args"]
    assert "--max-body-bytes=10485760" in arguments
    large = helm.objects("gateway: {limits: {maxConnections: 1000000}}")
    assert "--max-connections=1000000" in containers(deployments(large)["rerank-gateway"])["envoy"]["args"]


def test_spans_of_gateway_and_servers_go_to_one_collector_by_the_same_share(helm) -> None:
    values = 'tracing: {endpoint: "http://collector:4318", sampling: 0.5}'
    more = "server: {env: [{name: OTEL_SERVICE_NAME, value: mine}]}"
    objects = helm.objects(f"{values}\n{more}")
    _, *arguments = containers(deployments(objects)["rerank-gateway"])["envoy"]["args"]
    read = gateway._parser().parse_args(arguments)
    assert (read.tracing_endpoint, read.tracing_sampling) == ("http://collector:4318", 0.5)
    assert [(one.name, one.value) for one in settings_of(objects).server.env] == [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", read.tracing_endpoint),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.005"),
        ("OTEL_SERVICE_NAME", "mine"),
    ]
    assert settings_of(helm.objects()).server.env == ()
    assert not any(
        "tracing" in word
        for word in containers(deployments(helm.objects())["rerank-gateway"])["envoy"]["args"]
    )


@pytest.mark.parametrize("endpoint", ["https://collector:4318", "collector:4317", "http://c:4318?a=b"])
def test_a_collector_that_the_gateway_would_refuse_is_refused_at_once(
    helm, chart: Path, endpoint: str
) -> None:
    done = helm.run("lint", str(chart), values=f'tracing: {{endpoint: "{endpoint}"}}')
    assert done.returncode != 0
    assert "tracing" in done.stdout + done.stderr


def test_a_share_of_spans_that_are_sent_nowhere_is_refused(helm, chart: Path) -> None:
    done = helm.run("template", str(chart), values="tracing: {sampling: 50}")
    assert done.returncode != 0
    assert "set tracing.endpoint, or leave tracing.sampling out" in done.stderr


def test_only_the_agent_of_the_gateway_has_a_token(helm) -> None:
    template = deployments(helm.objects())["rerank-gateway"]
    assert template["spec"]["automountServiceAccountToken"] is False
    holders = {
        name
        for name, container in containers(template).items()
        for mount in container["volumeMounts"]
        if mount["name"] == "token"
    }
    assert holders == {"agent"}


@pytest.mark.parametrize("keep", [True, False])
def test_the_definitions_are_those_in_crds_and_stay_if_they_shall(helm, keep: bool) -> None:
    objects = helm.objects(f"crds: {{keep: {str(keep).lower()}}}")
    rendered = [manifest for (kind, _, _), manifest in objects.items() if kind == "CustomResourceDefinition"]
    for manifest in rendered:
        annotations = manifest["metadata"].pop("annotations", None)
        assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else None)
    files = sorted((ROOT / "crds").glob("*.yaml"))
    assert sorted(rendered, key=str) == sorted((yaml.safe_load(file.read_text()) for file in files), key=str)


def test_definitions_that_others_install_are_left_out(helm) -> None:
    assert not [key for key in helm.objects("crds: {install: false}") if key[0] == "CustomResourceDefinition"]


@pytest.mark.parametrize(
    ("release", "values", "prefix"),
    [
        pytest.param("rerank", "", "rerank", id="a release called rerank"),
        pytest.param("rerank-operator", "", "rerank", id="a release called like the chart"),
        pytest.param("search", "", "search-rerank", id="another release"),
        pytest.param("team-rerank", "", "team-rerank", id="a release that says rerank"),
        pytest.param("search", "nameOverride: ranking", "search-ranking", id="nameOverride"),
        pytest.param("search", "fullnameOverride: r", "r", id="fullnameOverride"),
        pytest.param("s" * 53, "", "s" * 50, id="the longest release"),
    ],
)
def test_names_follow_the_release(helm, release: str, values: str, prefix: str) -> None:
    objects = helm.objects(values, release=release)
    assert set(deployments(objects)) == {f"{prefix}-operator", f"{prefix}-gateway"}
    assert all(len(name) <= 63 for kind, _, name in objects if kind in {"Deployment", "Service"})
    assert settings_of(objects, f"{prefix}-operator").gateway.service == f"{prefix}-gateway"
    assert ("Service", "rerank", f"{prefix}-gateway") in objects


def test_in_given_namespaces_nothing_of_the_whole_cluster_is_made_or_asked_for(helm) -> None:
    objects = helm.objects(NARROW)
    assert not {kind for kind, _, _ in objects} & CLUSTER_WIDE
    for component in ("operator", "gateway"):
        for namespace in ("team-a", "team-b"):
            binding = objects["RoleBinding", namespace, f"rerank-{component}"]
            assert binding["subjects"] == [
                {"kind": "ServiceAccount", "name": f"rerank-{component}", "namespace": "rerank"}
            ]
            assert ("Role", namespace, f"rerank-{component}") in objects


@pytest.mark.parametrize("values", ["", HTTP_ROUTES], ids=["Ingress", "HTTPRoute"])
def test_the_operator_may_do_what_it_does_and_no_more(helm, values: str) -> None:
    objects = helm.objects(values)
    built = {kind for kind in watched(settings_of(objects)) if kind in OWNED}
    change = {"get", "list", "watch", "create", "patch", "delete"}
    assert granted(objects["ClusterRole", "", "rerank-operator"]["rules"]) == {
        **{(kind.group, kind.plural): change for kind in built},
        **{(kind.group, kind.plural): {"list", "watch"} for kind in (MODEL, POD)},
        (MODEL.group, f"{MODEL.plural}/status"): {"patch"},
        (CORE_EVENT.group, CORE_EVENT.plural): {"list"},
        (EVENT.group, EVENT.plural): {"create"},
    }


def test_operators_agree_on_one_lease(helm) -> None:
    objects = helm.objects(release="another")
    rights = objects["Role", "rerank", "another-rerank-operator-lease"]["rules"]
    rules = [rule for rule in rights if rule["resources"] == ["leases"]]
    assert [rule.get("resourceNames") for rule in rules] == [None, [LEASE]]
    assert [rule["verbs"] for rule in rules] == [["create"], ["get", "update"]]


def test_the_agent_only_looks(helm) -> None:
    agent = granted(helm.objects()["ClusterRole", "", "rerank-gateway"]["rules"])
    assert agent == {
        ("rerank.dev", "rerankmodels"): {"list", "watch"},
        ("discovery.k8s.io", "endpointslices"): {"list", "watch"},
    }


@pytest.mark.parametrize("more", ["", "watchNamespaces: [a]"])
def test_keys_are_asked_for_and_read_in_the_release_s_own_namespace_alone(helm, more: str) -> None:
    objects = helm.objects(more)
    programs = containers(deployments(objects)["rerank-gateway"])
    assert "--auth" in programs["envoy"]["args"]
    assert "--consumers-in=rerank" in programs["agent"]["args"]
    assert granted(objects["Role", "rerank", "rerank-gateway-keys"]["rules"]) == {
        ("rerank.dev", "rerankconsumers"): {"list", "watch"},
        ("", "secrets"): {"list", "watch"},
    }
    others = [o for key, o in objects.items() if "rules" in o and key[2] != "rerank-gateway-keys"]
    assert not any("secrets" in rule["resources"] for role in others for rule in role["rules"])
    holders = [
        o["subjects"] for o in objects.values() if o.get("roleRef", {}).get("name", "").endswith("keys")
    ]
    assert [[subject["name"] for subject in subjects] for subjects in holders] == [["rerank-gateway"]]


def test_without_keys_nobody_reads_secrets(helm) -> None:
    objects = helm.objects("gateway: {auth: {enabled: false}}")
    programs = containers(deployments(objects)["rerank-gateway"])
    assert not any("auth" in word or "consumers" in word for one in programs.values() for word in one["args"])
    roles = [manifest for manifest in objects.values() if "rules" in manifest]
    assert not any("secrets" in rule["resources"] for role in roles for rule in role["rules"])


def test_a_gateway_that_has_nothing_to_share_opens_no_port_for_it(helm) -> None:
    objects = helm.objects("gateway: {auth: {enabled: false}}")
    programs = containers(deployments(objects)["rerank-gateway"])
    assert "ports" not in programs["agent"]
    assert not [word for word in programs["agent"]["args"] if "peers" in word or "counts" in word]
    assert not [key for key in objects if key[0] == "NetworkPolicy" or key[2] == "rerank-gateway-all"]


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        pytest.param("requestTimeoutSeconds: 300", 120, id="the usual"),
        pytest.param("requestTimeoutSeconds: 100", 80, id="time is left to answer"),
        pytest.param("requestTimeoutSeconds: 300, tryTimeoutSeconds: 10", 8, id="within one try"),
        pytest.param("requestTimeoutSeconds: 1", 1, id="a second at least"),
    ],
)
def test_a_request_is_held_for_a_part_of_the_time_that_it_has(helm, limits: str, seconds: int) -> None:
    programs = containers(deployments(helm.objects(f"gateway: {{limits: {{{limits}}}}}"))["rerank-gateway"])
    assert gateway._parser().parse_args(programs["agent"]["args"][1:]).hold_s == seconds
    tried = gateway._parser().parse_args(programs["envoy"]["args"][1:]).try_timeout_s
    assert tried == (10.0 if "try" in limits else None)


def test_one_port_for_two_things_is_refused(helm, chart: Path) -> None:
    done = helm.run("template", str(chart), values="gateway: {metrics: {port: 9902}}")
    assert done.returncode != 0
    assert "gateway.metrics.port and gateway.peers.port are the same" in done.stderr


@pytest.mark.parametrize("more", ["", "watchNamespaces: [a]", "gateway: {replicas: 1}"])
def test_replicas_find_each_other_and_nobody_else_reaches_their_port(helm, more: str) -> None:
    objects = helm.objects(more)
    agent = containers(deployments(objects)["rerank-gateway"])["agent"]
    (port,) = agent["ports"]
    read = gateway._parser().parse_args(agent["args"][1:])
    assert read.counts_listen == ("0.0.0.0", port["containerPort"])
    assert read.peers_of == ("rerank", "rerank-gateway-all")
    service = objects["Service", "rerank", "rerank-gateway-all"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert [one["name"] for one in service["ports"]] == [PEERS_PORT_NAME]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert granted(objects["Role", "rerank", "rerank-gateway-all"]["rules"]) == {
        ("discovery.k8s.io", "endpointslices"): {"list", "watch"}
    }
    labels = deployments(objects)["rerank-gateway"]["metadata"]["labels"]
    policy = objects["NetworkPolicy", "rerank", "rerank-gateway"]["spec"]
    callers, peers = policy["ingress"]
    assert callers == {"ports": [{"port": 8080}]}
    assert peers["ports"] == [{"port": port["containerPort"]}]
    for selector in (service["selector"], policy["podSelector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert [one["podSelector"]["matchLabels"] for one in peers["from"]] == [service["selector"]]


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        pytest.param("", {}, id="all"),
        pytest.param(
            ", from: [{podSelector: {}}]", {"from": [{"podSelector": {}}]}, id="pods of the namespace"
        ),
    ],
)
def test_prometheus_has_a_named_port_if_it_is_asked_for(helm, who: str, allowed: dict[str, Any]) -> None:
    objects = helm.objects(f"gateway: {{auth: {{enabled: false}}, metrics: {{port: 9901{who}}}}}")
    envoy = containers(deployments(objects)["rerank-gateway"])["envoy"]
    assert {"name": "metrics", "containerPort": 9901} in envoy["ports"]
    assert gateway._parser().parse_args(envoy["args"][1:]).metrics_listen == ("0.0.0.0", 9901)
    policy = objects["NetworkPolicy", "rerank", "rerank-gateway"]["spec"]
    assert policy["ingress"] == [{"ports": [{"port": 8080}]}, {"ports": [{"port": 9901}], **allowed}]


def test_without_a_policy_none_is_made(helm) -> None:
    objects = helm.objects("gateway: {metrics: {port: 9901}, networkPolicy: {enabled: false}}")
    assert "NetworkPolicy" not in {kind for kind, _, _ in objects}
    assert ("Service", "rerank", "rerank-gateway-all") in objects


def test_the_programs_know_their_arguments(helm) -> None:
    pods = deployments(helm.objects(NARROW))
    programs = {**containers(pods["rerank-operator"]), **containers(pods["rerank-gateway"])}
    drain = programs["envoy"]["lifecycle"]["preStop"]["exec"]["command"]
    assert drain[:2] == ["/opt/rerank/bin/python", "-m"]
    read = {
        name: PROGRAMS[module]._parser().parse_args(arguments)
        for name, (module, *arguments) in {
            **{name: program["args"] for name, program in programs.items()},
            "drain": drain[2:],
        }.items()
    }
    assert read["agent"].namespace == ["team-a", "team-b"]
    assert (read["agent"].consumers_in, read["envoy"].auth) == ("rerank", True)
    assert {read[name].socket_dir for name in ("agent", "envoy", "drain")} == {Path("/run/rerank")}
    grace = pods["rerank-gateway"]["spec"]["terminationGracePeriodSeconds"]
    assert read["drain"].limit_s < read["agent"].linger_s < grace
    ports = [programs[name]["ports"][0]["containerPort"] for name in ("operator", "envoy")]
    assert [read["operator"].health, read["envoy"].listen] == [f"0.0.0.0:{ports[0]}", ("0.0.0.0", ports[1])]


@pytest.mark.parametrize("values", ["rbac: {create: false}", "{rbac: {create: false}, watchNamespaces: [a]}"])
def test_rights_that_others_grant_are_left_out(helm, values: str) -> None:
    kinds = [key for key in helm.objects(values) if "Role" in key[0]]
    assert {name for _, _, name in kinds} == {"rerank-view", "rerank-edit"}


def test_an_account_that_exists_is_used_and_not_made(helm) -> None:
    objects = helm.objects("gateway: {serviceAccount: {create: false, name: mine}}")
    assert deployments(objects)["rerank-gateway"]["spec"]["serviceAccountName"] == "mine"
    assert objects["ClusterRoleBinding", "", "rerank-gateway"]["subjects"][0]["name"] == "mine"
    assert {name for kind, _, name in objects if kind == "ServiceAccount"} == {"rerank-operator"}


def test_changed_settings_are_a_new_operator_pod_and_nothing_else_is(helm) -> None:
    before, changed, other = (
        deployments(helm.objects(values))
        for values in ("", "server: {env: [{name: HF_ENDPOINT, value: x}]}", "operator: {replicas: 2}")
    )
    assert before["rerank-operator"] != changed["rerank-operator"]
    assert before["rerank-gateway"] == changed["rerank-gateway"]
    assert before == other


def test_labels_and_annotations_that_are_added_replace_none_of_ours(helm) -> None:
    mine = "{app.kubernetes.io/component: mine, team: search}"
    values = f"operator: {{podLabels: {mine}, podAnnotations: {{rerank.dev/settings: mine, note: x}}}}"
    objects = helm.objects(values)
    metadata = deployments(objects)["rerank-operator"]["metadata"]
    selector = objects["Deployment", "rerank", "rerank-operator"]["spec"]["selector"]["matchLabels"]
    assert metadata["labels"] == {**selector, "team": "search"}
    assert len(metadata["annotations"]["rerank.dev/settings"]) == 64
    assert metadata["annotations"]["note"] == "x"


@pytest.mark.parametrize(
    ("values", "url"),
    [
        pytest.param("", "http://rerank-gateway.rerank.svc", id="the service"),
        pytest.param("service: {port: 8000}", "http://rerank-gateway.rerank.svc:8000", id="another port"),
        pytest.param(
            "ingress: {enabled: true, hosts: [a.example.com]}", "http://a.example.com", id="an Ingress"
        ),
        pytest.param(
            "ingress: {enabled: true, hosts: [a.example.com], tls: [{secretName: a}]}",
            "https://a.example.com",
            id="an Ingress with TLS",
        ),
        pytest.param(
            "httpRoute: {enabled: true, parentRefs: [{name: p}], hostnames: [b.example.com]}",
            "http://b.example.com",
            id="a route",
        ),
        pytest.param(
            "httpRoute: {enabled: true, parentRefs: [{name: p}]}",
            "http://rerank-gateway.rerank.svc",
            id="a route for all hosts",
        ),
        pytest.param("tls: {secretName: s}", "https://rerank-gateway.rerank.svc", id="the service with TLS"),
        pytest.param(
            "tls: {secretName: s}, service: {port: 80}",
            "https://rerank-gateway.rerank.svc:80",
            id="TLS on an unusual port",
        ),
        pytest.param("url: https://c.example.com/r", "https://c.example.com/r", id="what is given"),
    ],
)
def test_models_say_where_they_are_reached(helm, values: str, url: str) -> None:
    assert settings_of(helm.objects(f"gateway: {{{values}}}")).gateway.url == url


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        pytest.param("gateway: {models: {routeNamespaces: [a]}}", None, id="Ingresses need none"),
        pytest.param(HTTP_ROUTES, None, id="no namespace is named"),
        pytest.param(f"{HTTP_ROUTES}\nwatchNamespaces: [rerank]", None, id="its own namespace needs none"),
        pytest.param(f"{HTTP_ROUTES}\nwatchNamespaces: [a, rerank]", ["a"], id="the watched ones"),
        pytest.param(
            "watchNamespaces: [a]\n" + HTTP_ROUTES.replace("models: {", "models: {routeNamespaces: [a, b], "),
            ["a", "b"],
            id="others too, each once",
        ),
    ],
)
def test_routes_of_other_namespaces_are_let_in_where_they_are_named(
    helm, values: str, allowed: list[str] | None
) -> None:
    grant = helm.objects(values).get(("ReferenceGrant", "rerank", "rerank-gateway"))
    assert (grant and [origin["namespace"] for origin in grant["spec"]["from"]]) == allowed


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param("replicas: 2", "additional properties 'replicas' not allowed", id="an unknown value"),
        pytest.param(
            "gateway: {replica: 3}",
            "at '/gateway': additional properties 'replica' not allowed",
            id="a misspelt value",
        ),
        pytest.param(
            "gateway: {replicas: 0}", "at '/gateway/replicas': minimum: got 0, want 1", id="no gateway"
        ),
        pytest.param(
            "gateway: {replicas: two}", "at '/gateway/replicas': got string, want integer", id="a word"
        ),
        pytest.param(
            "gateway: {service: {port: 70000}}", "'/gateway/service/port': maximum: got 70,000", id="a port"
        ),
        pytest.param(
            "gateway: {metrics: {port: 80}}", "at '/gateway/metrics/port'", id="a port of the system"
        ),
        pytest.param("gateway: {peers: {port: 8080}}", "at '/gateway/peers/port'", id="the callers' port"),
        pytest.param(
            "gateway: {limits: {maxBodyBytes: 20971520}}",
            "at '/gateway/limits/maxBodyBytes': maximum: got 2.09",
            id="a larger body than servers take",
        ),
        pytest.param(
            "gateway: {limits: {requestTimeoutSeconds: 600}}",
            "at '/gateway/limits/requestTimeoutSeconds': maximum: got 600, want 300",
            id="a longer wait than servers have",
        ),
        pytest.param(
            "gateway: {limits: {receiveTimeoutSeconds: 60s}}",
            "at '/gateway/limits/receiveTimeoutSeconds': got string, want integer",
            id="a time with its unit",
        ),
        pytest.param(
            "gateway: {limits: {maxConnections: 0}}",
            "at '/gateway/limits/maxConnections': minimum: got 0, want 1",
            id="no connection",
        ),
        pytest.param(
            "gateway: {tls: {secretName: Gateway_TLS}}",
            "at '/gateway/tls/secretName': 'Gateway_TLS' does not match pattern",
            id="no name of a Secret",
        ),
        pytest.param(
            "gateway: {service: {type: ExternalName}}",
            "must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'",
            id="a type of Service",
        ),
        pytest.param(
            "gateway: {ingress: {enabled: true}}",
            "at '/gateway/ingress/hosts': minItems: got 0, want 1",
            id="an Ingress without a host",
        ),
        pytest.param(
            "gateway: {ingress: {hosts: [http://a]}}",
            "at '/gateway/ingress/hosts/0': 'http://a' does not match pattern",
            id="a URL for a host",
        ),
        pytest.param(
            "gateway: {httpRoute: {enabled: true}}",
            "at '/gateway/httpRoute/parentRefs': minItems: got 0, want 1",
            id="a route without a parent",
        ),
        pytest.param(
            "gateway: {httpRoute: {timeout: 5 minutes}}",
            "at '/gateway/httpRoute/timeout': '5 minutes' does not match pattern",
            id="a timeout in words",
        ),
        pytest.param(
            "gateway: {models: {ingress: {kind: Route}}}",
            "at '/gateway/models/ingress/kind': value must be one of 'Ingress', 'HTTPRoute'",
            id="an unknown kind",
        ),
        pytest.param(
            "gateway: {models: {ingress: {kind: HTTPRoute}}}",
            "at '/gateway/models/ingress/parentRefs': minItems: got 0, want 1",
            id="routes without a parent",
        ),
        pytest.param(
            "gateway: {models: {ingress: {kind: HTTPRoute, parentRefs: [{name: p}], tlsSecret: s}}}",
            "at '/gateway/models/ingress/tlsSecret': maxLength: got 1, want 0",
            id="a certificate for routes",
        ),
        pytest.param(
            "gateway: {models: {ingress: {parentRefs: [{name: p}]}}}",
            "at '/gateway/models/ingress/parentRefs': maxItems: got 1, want 0",
            id="a parent for Ingresses",
        ),
        pytest.param(
            "gateway: {models: {ingress: {annotations: {a: 1}}}}",
            "at '/gateway/models/ingress/annotations/a': got number, want string",
            id="a number for an annotation",
        ),
        pytest.param(
            "gateway: {url: rerank.example.com}",
            "at '/gateway/url': 'rerank.example.com' does not match pattern '^(https?://",
            id="a URL without its scheme",
        ),
        pytest.param(
            "images: {registry: https://registry.example.com}",
            "at '/images/registry': 'https://registry.example.com' does not match pattern",
            id="a registry with a scheme",
        ),
        pytest.param(
            "images: {server: {tag: latest:1}}",
            "at '/images/server/tag': 'latest:1' does not match pattern",
            id="no tag",
        ),
        pytest.param(
            "images: {pullSecrets: [registry]}",
            "at '/images/pullSecrets/0': got string, want object",
            id="a pull secret's bare name",
        ),
        pytest.param(
            "images: {pullPolicy: Sometimes}",
            "must be one of 'Always', 'IfNotPresent', 'Never'",
            id="a policy",
        ),
        pytest.param(
            "watchNamespaces: [team-a, Team_B]",
            "at '/watchNamespaces/1': 'Team_B' does not match pattern",
            id="no namespace",
        ),
        pytest.param(
            "watchNamespaces: [a, a]",
            "'/watchNamespaces': items at 0 and 1 are equal",
            id="a namespace twice",
        ),
        pytest.param(
            "watchNamespaces: a", "at '/watchNamespaces': got string, want array", id="namespaces as a word"
        ),
        pytest.param(
            "server: {resources: {requests: {cpu: 0.5}}}",
            "at '/server/resources/requests/cpu': got number, want integer or string",
            id="a fraction, which Kubernetes wants as a text",
        ),
        pytest.param(
            "server: {resources: {requests: {memory: 2 GB}}}",
            "at '/server/resources/requests/memory': '2 GB' does not match pattern",
            id="no quantity",
        ),
        pytest.param(
            "server: {env: [{name: A, value: 1}]}",
            "at '/server/env/0/value': got number, want string",
            id="a number in the environment",
        ),
        pytest.param(
            "profiles: {h100: {limits: {nvidia.com/gpu: 1}}}",
            "at '/profiles/h100': additional properties 'limits' not allowed",
            id="a profile without its resources",
        ),
        pytest.param(
            "profiles: {h100: {template: {runtimeClass: nvidia}}}",
            "at '/profiles/h100/template': additional properties 'runtimeClass' not allowed",
            id="a misspelt field of a template",
        ),
        pytest.param(
            "fullnameOverride: Rerank",
            "at '/fullnameOverride': 'Rerank' does not match pattern",
            id="a name with capitals",
        ),
    ],
)
def test_a_bad_value_is_refused_with_where_it_stands_and_why(
    helm, chart: Path, values: str, sentence: str
) -> None:
    for command in (["template", "rerank", str(chart)], ["lint", str(chart)]):
        done = helm.run(*command, values=values)
        assert done.returncode != 0, command
        assert sentence in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param("", "port-forward -n rerank service/rerank-gateway 8080:80", id="without a host"),
        pytest.param("", "make images", id="without a registry"),
        pytest.param(
            "gateway: {ingress: {enabled: true, hosts: [a.example.com]}}",
            "curl http://a.example.com/v1/rerank",
            id="with a host",
        ),
        pytest.param("", '-H "Authorization: Bearer $KEY"', id="with a key"),
        pytest.param("gateway: {tls: {secretName: s}}", "rerank-gateway 8080:443 &", id="with TLS, its port"),
        pytest.param(
            "gateway: {tls: {secretName: s}}", "curl --insecure https://127.0.0.1:8080/", id="with TLS"
        ),
        pytest.param("watchNamespaces: [team-a]", "kubectl apply -n team-a", id="in one namespace"),
        pytest.param(HTTP_ROUTES, "gateway.models.routeNamespaces", id="routes from everywhere"),
    ],
)
def test_the_notes_say_what_to_do_next(helm, chart: Path, values: str, says: str) -> None:
    done = helm.run("install", "rerank", str(chart), "-n", "rerank", "--dry-run=client", values=values)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("\nNOTES:\n")[2]
    assert says in notes
    assert re.search(r"kubectl apply .*kubectl wait .*curl ", notes, re.DOTALL)
