"""Served models and endpoints refuse values that make no sense."""

import pytest

from rerank_api.status import ModelState
from rerank_gateway.models import Consumer, Endpoint, ServedModel


@pytest.mark.parametrize(
    ("address", "port", "words"),
    [
        pytest.param("localhost", 80, "'localhost' is not an IP address", id="a host name"),
        pytest.param("", 80, "'' is not an IP address", id="nothing"),
        pytest.param("10.0.0.1", 0, "the port 0 of endpoint 10.0.0.1", id="port 0"),
        pytest.param("10.0.0.1", 65536, "the port 65536", id="a port too high"),
    ],
)
def test_an_endpoint_that_cannot_be_dialled_is_refused_with_what_is_wrong(address, port, words):
    with pytest.raises(ValueError, match=words):
        Endpoint(address, port)


@pytest.mark.parametrize("limit", [0, -1, 2**32])
def test_a_limit_that_envoy_would_refuse_is_refused(limit):
    with pytest.raises(ValueError, match="a limit of consumer 'app' is not from 1 to"):
        Consumer("app", (), ("*",), limit)


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "2001:db8::5"])
def test_addresses_of_both_ip_versions_are_taken(address):
    assert Endpoint(address, 8000).address == address


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"name": ""}, "needs a public name", id="no public name"),
        pytest.param({"model": ""}, "needs a public name", id="no RerankModel"),
        pytest.param({"progress": 1.5}, "not between 0 and 1", id="progress in percent"),
    ],
)
def test_a_model_without_identity_or_with_impossible_progress_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        ServedModel(**({"name": "a", "model": "a", "state": ModelState.READY, "message": ""} | fields))
