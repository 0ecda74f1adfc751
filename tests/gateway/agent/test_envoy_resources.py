"""Models as Envoy's resources. `UPDATE_GOLDEN=1 pytest …` writes the golden files anew."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rerank_gateway import credentials, resources, snapshot
from rerank_gateway.clusters import host_cluster, name_cluster
from rerank_gateway.models import View

GOLDEN = Path(__file__).with_name("golden")
REWRITE = os.environ.get("UPDATE_GOLDEN") == "1"
VIEW = TypeAdapter(View)
KINDS = {
    "extensions": (resources.EXTENSION_TYPE, credentials.Extension),
    "clusters": (resources.CLUSTER_TYPE, resources.Cluster),
    "endpoints": (resources.LOAD_ASSIGNMENT_TYPE, resources.ClusterLoadAssignment),
}


def rendered(view: View) -> str:
    """Everything that Envoy would be told of the view, as YAML."""
    built = snapshot.build(view, activator=Path("/run/rerank/hold.sock"))
    told = {
        kind: [
            json.loads(
                json_format.MessageToJson(
                    message.FromString(resource.body),
                    preserving_proto_field_name=True,
                    sort_keys=kind == "extensions",  # maps have no order of their own
                )
            )
            for resource in built.resources[type_url].values()
        ]
        for kind, (type_url, message) in KINDS.items()
        if kind != "extensions" or view.consumers
    }
    return yaml.safe_dump(told, sort_keys=False)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in.yaml")), ids=lambda path: path.name)
def test_a_view_becomes_the_resources_in_its_golden_file(path):
    golden = path.with_name(path.name.replace(".in.yaml", ".out.yaml"))
    given = yaml.safe_load(path.read_text())
    result = rendered(VIEW.validate_python({"models": given} if isinstance(given, list) else given))
    if REWRITE:
        golden.write_text(result)
    assert result == golden.read_text()


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda name: name.isprintable()))
def test_a_name_in_statistics_has_no_sign_that_splits_a_label(name):
    for cluster in (name_cluster(name), host_cluster(name)):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", resources.stat_name(cluster))


def test_names_and_hosts_that_read_the_same_stay_apart_in_statistics():
    names = ["a.b", "a/b", "a:b", "a_b", "a-b", "a@b", "host_a.b", "h/a.b"]
    clusters = [*map(name_cluster, names), *map(host_cluster, names)]
    assert len({resources.stat_name(cluster) for cluster in clusters}) == len(clusters)
    stat_name = resources.stat_name(name_cluster("BAAI/bge-reranker-v2-m3"))
    assert stat_name.startswith("BAAI_bge-reranker-v2-m3-")
    assert resources.stat_name(host_cluster("bge.example.com")).startswith("host_bge_example_com-")
