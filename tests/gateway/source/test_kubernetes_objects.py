"""What the gateway reads of RerankModels and EndpointSlices, and what it cannot read."""

import pytest

from rerank_api.status import ModelState
from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.objects import Model, Slice, Told, UnreadableError
from rerank_gateway.models import Endpoint, Facts


def test_of_a_model_the_few_fields_that_count_are_read(rerank_model):
    raw = rerank_model(
        names=["bge", "BAAI/bge:v2", "bge"],
        host="bge.example.com",
        spec={"unknown": {"field": 1}, "replicas": 2, "weight": 0},
        status={
            "state": "Loading",
            "message": "Reading weights.",
            "progressPercent": 43,
            "family": "qwen3-reranker",
            "maxLength": 8192,
            "scoreScale": "logit",
            "more": 1,
        },
    )
    assert objects.model(raw) == Model(
        namespace="rag",
        name="bge",
        created=1767225600,
        names=("bge", "BAAI/bge:v2"),
        host="bge.example.com",
        weight=0,
        told=Told(
            state=ModelState.LOADING,
            message="Reading weights.",
            progress=0.43,
            facts=Facts(family="qwen3-reranker", max_length=8192, score_scale="logit"),
        ),
    )


@pytest.mark.parametrize("names", [pytest.param(None, id="absent"), pytest.param([], id="empty")])
def test_without_names_a_model_answers_to_its_own(rerank_model, names):
    assert objects.model(rerank_model("mini", names=names)).names == ("mini",)


@pytest.mark.parametrize(
    ("spec", "from_zero"),
    [
        pytest.param({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, True, id="at 0 at least"),
        pytest.param({"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}, False, id="at 1 at least"),
        pytest.param({"autoscaling": {"maxReplicas": 2}}, False, id="not said: 1"),
        pytest.param({"replicas": 0}, False, id="fixed at 0"),
        pytest.param({}, False, id="neither"),
    ],
)
def test_a_request_wakes_a_model_whose_autoscaling_may_go_to_zero(rerank_model, spec, from_zero):
    assert objects.model(rerank_model(spec=spec)).from_zero is from_zero


@pytest.mark.parametrize(("state", "from_zero"), [("Idle", True), ("Loading", True), ("Failed", False)])
def test_nobody_waits_for_a_model_that_failed(rerank_model, state, from_zero):
    raw = rerank_model(spec={"autoscaling": {"minReplicas": 0}}, status={"state": state})
    assert objects.model(raw).from_zero is from_zero


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param("Ready", id="a text"),
        pytest.param({"state": "Hibernating", "message": ""}, id="a state that is unknown here"),
        pytest.param({"state": ["Ready"], "message": 5}, id="other types"),
        pytest.param(
            {"progressPercent": 101, "family": "", "maxLength": True, "scoreScale": 1}, id="no facts"
        ),
        pytest.param({"progressPercent": "43", "maxLength": "512"}, id="texts for numbers"),
    ],
)
def test_a_status_that_says_nothing_stops_no_model(rerank_model, status):
    assert objects.model(rerank_model(status=status)).told == Told()


def test_a_model_that_is_being_deleted_is_gone(rerank_model):
    assert objects.model(rerank_model(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"names": ["a b"]}, "spec.names holds 'a b'", id="no name"),
        pytest.param({"names": [5]}, "spec.names holds 5", id="a number for a name"),
        pytest.param({"names": [["a"]]}, "spec.names holds", id="a list for a name"),
        pytest.param({"names": "bge"}, "names is 'bge', which is no list", id="a text for names"),
        pytest.param({"host": 5}, "spec.ingress.host is 5", id="a number for a host"),
        pytest.param({"spec": {"ingress": "h"}}, "ingress is 'h'", id="a text for the ingress"),
        pytest.param({"spec": {"weight": "5"}}, "spec.weight is '5'", id="a text for the weight"),
        pytest.param({"spec": {"weight": True}}, "spec.weight is True", id="a truth value for the weight"),
        pytest.param({"spec": {"weight": 1001}}, "spec.weight is 1001", id="a weight beyond bounds"),
        pytest.param({"metadata": {"creationTimestamp": "yesterday"}}, "no time", id="no time"),
        pytest.param({"metadata": {"creationTimestamp": None}}, "creationTimestamp is None", id="null time"),
        pytest.param({"metadata": {"namespace": ""}}, "metadata.namespace", id="no namespace"),
        pytest.param({"metadata": {"name": 5}}, "metadata.name is 5", id="a number for its own name"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused_with_the_field(rerank_model, fields, says):
    with pytest.raises(UnreadableError, match=says):
        objects.model(rerank_model(**fields))


def ready(*addresses: str) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(address, 8000) for address in addresses)


@pytest.mark.parametrize(
    ("addresses", "fields", "endpoints"),
    [
        pytest.param(("10.0.0.1", "10.0.0.2"), {}, ready("10.0.0.1", "10.0.0.2"), id="ready"),
        pytest.param(("fd00::1",), {}, ready("fd00::1"), id="IPv6"),
        pytest.param(("10.0.0.1",), {"conditions": {"ready": False}}, (), id="not ready"),
        pytest.param(("10.0.0.1",), {"conditions": {}}, ready("10.0.0.1"), id="says nothing of it"),
        pytest.param(
            ("10.0.0.1",), {"conditions": {"ready": None, "terminating": None}}, ready("10.0.0.1"), id="nulls"
        ),
        pytest.param(
            ("10.0.0.1",),
            {"conditions": {"ready": True, "serving": True, "terminating": True}},
            (),
            id="terminating",
        ),
        pytest.param((), {}, (), id="none"),
        pytest.param((), {"endpoints": None}, (), id="null"),
        pytest.param(
            ("10.0.0.1",),
            {"ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": 8000}]},
            ready("10.0.0.1"),
            id="the port is found by its name",
        ),
        pytest.param(
            (),
            {"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]},
            ready("10.0.0.1"),
            id="only the first address has a meaning",
        ),
    ],
)
def test_replicas_that_take_traffic_are_read(endpoint_slice, addresses, fields, endpoints):
    raw = endpoint_slice("bge-1", *addresses, **fields)
    assert objects.endpoint_slice(raw) == Slice(("rag", "bge"), endpoints)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"addressType": "FQDN"}, id="host names"),
        pytest.param({"ports": []}, id="no port"),
        pytest.param({"ports": [{"name": "grpc", "port": 1}]}, id="no port of that name"),
        pytest.param({"ports": [{"name": "http", "port": None}]}, id="any port"),
        pytest.param({"model": None}, id="no model"),
        pytest.param({"service": "bge-gateway-1a2b3c4d"}, id="of the Service that leads to the gateway"),
    ],
)
def test_a_slice_that_is_of_no_use_has_no_replicas(endpoint_slice, fields):
    assert objects.endpoint_slice(endpoint_slice("bge-1", "10.0.0.1", **fields)) is None


@pytest.mark.parametrize(
    ("addresses", "fields", "says"),
    [
        pytest.param(("nowhere",), {}, "'nowhere' is not an IP address", id="no address"),
        pytest.param(("10.0.0.1",), {"ports": [{"name": "http", "port": "http"}]}, "no number", id="no port"),
        pytest.param(("10.0.0.1",), {"ports": [{"name": "http", "port": 70000}]}, "70000", id="a large port"),
        pytest.param((), {"endpoints": [{"addresses": []}]}, "no address", id="an empty endpoint"),
        pytest.param((), {"endpoints": ["10.0.0.1"]}, "no address", id="a text for an endpoint"),
        pytest.param((), {"endpoints": {}}, "no list", id="no list"),
    ],
)
def test_a_slice_that_cannot_be_read_is_refused_with_the_field(endpoint_slice, addresses, fields, says):
    with pytest.raises(UnreadableError, match=says):
        objects.endpoint_slice(endpoint_slice("bge-1", *addresses, **fields))
