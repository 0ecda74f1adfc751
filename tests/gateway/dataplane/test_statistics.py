"""Envoy's statistics as Prometheus reads them: a model is one label, whatever its name looks like."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rerank_gateway.bootstrap import ADS_CLUSTER, AGENT_CLUSTER, PAGE_CLUSTER
from rerank_gateway.clusters import name_cluster
from rerank_gateway.resources import stat_name

NAMES = ("acme/m3.v1", "acme/m3.v1.5", "m3.upstream_rq_total", "BAAI/bge:v2@prod")
"""Envoy cuts a statistic's name at its dots to find the labels: these have some, or read like a statistic."""

CLUSTER_LABEL = "envoy_cluster_name"
REQUESTS = "envoy_cluster_upstream_rq_total"
KINDS = {
    REQUESTS,
    "envoy_cluster_upstream_rq_active",
    "envoy_cluster_upstream_rq_retry_total",
    "envoy_cluster_upstream_rq_xx_total",
    "envoy_cluster_internal_upstream_rq_xx_total",
    "envoy_cluster_membership_healthy",
    "envoy_cluster_membership_total",
}
"""What is kept of a cluster."""


class Answer(BaseHTTPRequestHandler):
    """A model server's place: it ranks nothing, and says so with 200."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def replica_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_model_is_one_label_of_few_metrics_however_many_dots_its_name_has(
    gateway_before: Callable[..., Any], replica_port: int
) -> None:
    with gateway_before(dict.fromkeys(NAMES, replica_port)) as gateway:
        for name in NAMES:
            body = json.dumps({"model": name}).encode()
            assert gateway.caller.post("/v1/rerank", body).status == 200
        page = gateway.administration("/stats/prometheus")

    families = text_string_to_metric_families(page)
    of_clusters = [
        sample for family in families for sample in family.samples if CLUSTER_LABEL in sample.labels
    ]
    labels = {name: stat_name(name_cluster(name)) for name in NAMES}
    assert {sample.labels[CLUSTER_LABEL] for sample in of_clusters} == {
        *labels.values(),
        ADS_CLUSTER,
        AGENT_CLUSTER,
        PAGE_CLUSTER,
    }
    assert {sample.name for sample in of_clusters} <= KINDS
    requests = {s.labels[CLUSTER_LABEL]: s.value for s in of_clusters if s.name == REQUESTS}
    assert {name: requests[label] for name, label in labels.items()} == dict.fromkeys(NAMES, 1.0)
