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

from rerank_gateway import resources, snapshot
from rerank_gateway.models import View

GOLDEN = Path(__file__).with_name("golden")
REWRITE = os.environ.get("UPDATE_GOLDEN") == "1"
VIEW = TypeAdapter(View)
KINDS = {
    "clusters": (resources.CLUSTER_TYPE, resources.Cluster),
    "endpoints": (resources.LOAD_ASSIGNMENT_TYPE, resources.ClusterLoadAssignment),
}


def rendered(view: View) -> str:
    """Everything that Envoy would be told of the view, as YAML."""
    built = snapshot.build(view)
    told = {
        kind: [
            json.loads(
                json_format.MessageToJson(message.FromString(resource.body), preserving_proto_field_name=True)
            )
            for resource in built.resources[type_url].values()
        ]
        for kind, (type_url, message) in KINDS.items()
    }
    return yaml.safe_dump(told, sort_keys=False)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in.yaml")), ids=lambda path: path.name)
def test_a_view_becomes_the_resources_in_its_golden_file(path):
    golden = path.with_name(path.name.replace(".in.yaml", ".out.yaml"))
    result = rendered(VIEW.validate_python(yaml.safe_load(path.read_text())))
    if REWRITE:
        golden.write_text(result)
    assert result == golden.read_text()


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda name: name.isprintable()))
def test_a_name_in_statistics_has_no_sign_that_splits_a_label(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]+", resources.stat_name(name))


def test_names_that_read_the_same_stay_apart_in_statistics():
    names = ["a.b", "a/b", "a:b", "a_b", "a-b", "a@b"]
    assert len({resources.stat_name(name) for name in names}) == len(names)
    assert resources.stat_name("BAAI/bge-reranker-v2-m3").startswith("BAAI_bge-reranker-v2-m3-")
