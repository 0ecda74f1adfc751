"""What the watches tell of: everything that is built, and no more than that."""

from typing import Any

import pytest

from rerank_operator import desired
from rerank_operator.handlers import label_selector, watched
from rerank_operator.keys import KINDS, MODEL, POD, Kind
from tests.operator.given import GATEWAY, Manifest, accepted, model, settings

EVERYTHING: Manifest = {"replicas": 2, "ingress": {"host": "bge.example.com"}}
INGRESS: Manifest = {"kind": "Ingress"}
ROUTE: Manifest = {"kind": "HTTPRoute", "parentRefs": [{"name": "public"}]}


def manifests(ingress: Manifest) -> list[Manifest]:
    by = settings(ingress=ingress)
    return list(desired.manifests(accepted(model(**EVERYTHING), by), by, GATEWAY))


def selected(selector: str | None, labels: dict[str, str]) -> bool:
    """Say whether an API server would tell of an object with these labels."""
    wants = [] if selector is None else selector.split(",")
    return all(
        labels.get(name) == value if found else name in labels
        for name, found, value in (one.partition("=") for one in wants)
    )


@pytest.mark.parametrize(
    "ingress", [pytest.param(INGRESS, id="by Ingresses"), pytest.param(ROUTE, id="by HTTPRoutes")]
)
def test_everything_that_is_built_is_told_of(ingress: Any) -> None:
    kinds = set(watched(settings(ingress=ingress)))
    for manifest in manifests(ingress):
        kind = KINDS[manifest["kind"]]
        assert kind in kinds
        assert selected(label_selector(kind), manifest["metadata"]["labels"])
    assert kinds == {KINDS[manifest["kind"]] for manifest in manifests(ingress)} | {MODEL, POD}


def test_pods_are_told_of_by_their_own_labels() -> None:
    [pod] = [one["spec"]["template"] for one in manifests(INGRESS) if one["kind"] == "Deployment"]
    assert selected(label_selector(POD), pod["metadata"]["labels"])


def test_slices_that_kubernetes_makes_of_our_services_are_not() -> None:
    """It copies a Service's labels to them."""
    [service, _] = [one for one in manifests(INGRESS) if one["kind"] == "Service"]
    made = {
        **service["metadata"]["labels"],
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller",
    }
    assert not selected(label_selector(KINDS["EndpointSlice"]), made)


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        pytest.param("Pod", None, None, "/api/v1/pods", id="all of the core group"),
        pytest.param("Pod", "search", None, "/api/v1/namespaces/search/pods", id="all of a namespace"),
        pytest.param(
            "Deployment", "search", "bge", "/apis/apps/v1/namespaces/search/deployments/bge", id="one object"
        ),
    ],
)
def test_an_object_is_where_the_api_server_has_it(
    kind: str, namespace: str | None, name: str | None, path: str
) -> None:
    found: Kind = KINDS[kind]
    assert found.path(namespace, name) == path
