"""Whether a model can be built, and what it is over its profile and the chart's defaults."""

import json
from typing import Any

import pytest

from rerank_api.pod import Resources
from rerank_operator.accept import MAX_MANIFEST_BYTES, SENTENCES, Model, Refused, accept, server_manifest
from rerank_operator.settings import Settings
from tests.operator.given import KEY, UID, accepted, model, settings

HUB = {"huggingFace": {"repo": "BAAI/bge-reranker-v2-m3"}}
LARGE = {"query": "q", "documents": ["x" * 60_000] * 4, "scores": [0.0] * 4}


def said(raw: dict[str, Any], by: Settings | None = None) -> str:
    """Return why a model is refused."""
    verdict = accept(raw, by or settings())
    assert isinstance(verdict, Refused)
    return verdict.message


def test_a_model_is_accepted_as_its_author_wrote_it() -> None:
    verdict = accepted(model(source=HUB, replicas=3, names=["bge", "BAAI/bge"]))
    assert (verdict.key, verdict.uid, verdict.replicas) == (KEY, UID, 3)
    assert verdict.manifest.public_names == ("bge", "BAAI/bge")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"source": {"file": {"path": "models/bge"}}},
            "spec.source.file: a folder of one machine is for the local runner: give hostPath or pvc, which "
            "pods can mount.",
            id="a folder of somebody's machine",
        ),
        pytest.param(
            {"source": {"s3": {"uri": "s3://models/bge"}}},
            "spec.source.s3: the operator does not act on this source yet: copy the model to a volume and "
            "give source.pvc.",
            id="a bucket",
        ),
        pytest.param(
            {"source": {"oci": {"image": "example.com/models/bge:1"}}},
            "spec.source.oci: the operator does not act on this source yet: copy the model to a volume and "
            "give source.pvc.",
            id="an image of files",
        ),
        pytest.param(
            {"autoscaling": {"minReplicas": 1, "maxReplicas": 4}},
            "spec.autoscaling: the operator runs as many replicas as spec.replicas says: give that instead.",
            id="replicas by load",
        ),
        pytest.param(
            {"autoscaling": {"maxReplicas": 4}, "source": {"file": {"path": "bge"}}},
            "spec.source.file: a folder of one machine is for the local runner: give hostPath or pvc, which "
            "pods can mount; spec.autoscaling: the operator runs as many replicas as spec.replicas says: "
            "give that instead.",
            id="two at once are both told",
        ),
        pytest.param(
            {"replicas": 1, "autoscaling": {"maxReplicas": 4}},
            "spec.replicas: Give replicas or autoscaling, not both: remove replicas, and say e.g. "
            "autoscaling: {minReplicas: 2, maxReplicas: 8}.",
            id="what the definition in the cluster would refuse too",
        ),
        pytest.param(
            {"profile": "nvidia-h100"},
            "spec.profile: the chart has no profile 'nvidia-h100' (it has none): name one of those, remove "
            "the field and give spec.resources, or add the profile to the chart's values.",
            id="a profile where there is none",
        ),
        pytest.param(
            {"verify": {"goldens": [LARGE]}},
            "spec.verify.goldens: the manifest is larger than 200 KiB, and has to travel with each pod: give "
            "fewer or shorter goldens.",
            id="goldens that no annotation can hold",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_with_what_to_do(spec: dict[str, Any], message: str) -> None:
    assert said(model(**spec)) == message


def test_every_sentence_of_our_own_is_told_by_a_case_above() -> None:
    cases = test_a_model_that_cannot_be_built_is_refused_with_what_to_do.pytestmark[0].args[1]
    told = " ".join(case.values[1] for case in cases)
    assert [field for field, sentence in SENTENCES.items() if f"{field}: {sentence}" not in told] == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"scoring": {"activation": "softmax"}},
            "spec.scoring.activation: 'softmax' is not one of none, sigmoid.",
            id="a value that is new",
        ),
        pytest.param(
            {"scoring": {"familly": "auto"}},
            "spec.scoring.familly: is not a field of spec.scoring, did you mean family?",
            id="a field that is nearly one",
        ),
        pytest.param(
            {"replicas": "two", "ingress": {}},
            "spec.replicas: 'two' is not what goes here: write a whole number. Number of replicas, 1 by "
            "default. Excludes autoscaling; spec.ingress.host: is missing: add it. Host name whose requests "
            "reach this model where they name none, e.g. bge.example.com.",
            id="two values of another shape",
        ),
    ],
)
def test_what_only_another_definition_lets_through_is_refused_and_not_ignored(
    spec: dict[str, Any], message: str
) -> None:
    raw = model()
    raw["spec"] |= spec
    assert said(raw) == message


def test_an_unknown_profile_names_those_that_there_are() -> None:
    by = settings(profiles={"nvidia-h100": {}, "cpu-large": {}})
    assert "no profile 'h100' (it has cpu-large, nvidia-h100)" in said(model(profile="h100"), by)


def test_goldens_are_measured_as_they_travel() -> None:
    fits = {"query": "q", "documents": ["x" * 60_000] * 3, "scores": [0.0] * 3}
    verdict = accepted(model(verify={"goldens": [fits]}))
    assert 180_000 < len(server_manifest(verdict.manifest).encode()) < MAX_MANIFEST_BYTES


def test_texts_reach_the_server_as_they_were_written() -> None:
    text = '大熊猫 🐼 \u2028 \u0085 \x7f \\ud83d "quoted" \t tab'
    golden = {"query": text, "documents": [text], "scores": [1.0]}
    verdict = accepted(model(scoring={"instruction": text}, verify={"goldens": [golden]}))
    read = json.loads(server_manifest(verdict.manifest))["spec"]
    assert read["scoring"]["instruction"] == text
    assert read["verify"]["goldens"][0]["documents"] == [text]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"replicas": 5}, id="more replicas"),
        pytest.param({"resources": {"limits": {"memory": "8Gi"}}}, id="more memory"),
        pytest.param({"profile": "big"}, id="another profile"),
        pytest.param({"cache": {"claim": "models"}}, id="another cache"),
        pytest.param({"ingress": {"host": "bge.example.com"}}, id="a host"),
        pytest.param({"weight": 5}, id="a weight"),
        pytest.param({"template": {"labels": {"team": "search"}}}, id="a label"),
    ],
)
def test_what_does_not_concern_one_server_is_not_in_its_manifest(change: dict[str, Any]) -> None:
    by = settings(profiles={"big": {}})
    plain, changed = accepted(model(), by), accepted(model(**change), by)
    assert server_manifest(changed.manifest) == server_manifest(plain.manifest)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"scoring": {"activation": "sigmoid"}}, id="another activation"),
        pytest.param({"names": ["bge", "bge:v2"]}, id="another name"),
        pytest.param({"verify": {"required": False}}, id="another bar"),
        pytest.param({"source": HUB}, id="another source"),
    ],
)
def test_what_concerns_one_server_is_in_its_manifest(change: dict[str, Any]) -> None:
    plain, changed = accepted(model()), accepted(model(**change))
    assert server_manifest(changed.manifest) != server_manifest(plain.manifest)


CHART = {"limits": {"memory": "4Gi"}, "requests": {"cpu": 1, "memory": "4Gi"}}
PROFILE = {"limits": {"nvidia.com/gpu": 1, "memory": "32Gi"}, "requests": {"cpu": 4}}


@pytest.mark.parametrize(
    ("chart", "profile", "own", "limits", "requests"),
    [
        pytest.param(None, None, None, {}, {}, id="nobody says anything"),
        pytest.param(
            CHART, None, None, {"memory": "4Gi"}, {"cpu": 1, "memory": "4Gi"}, id="the chart's defaults"
        ),
        pytest.param(
            CHART,
            PROFILE,
            None,
            {"nvidia.com/gpu": 1, "memory": "32Gi"},
            {"cpu": 4},
            id="a profile's limit takes the chart's request with it",
        ),
        pytest.param(
            CHART,
            PROFILE,
            {"requests": {"memory": "8Gi"}},
            {"nvidia.com/gpu": 1},
            {"cpu": 4, "memory": "8Gi"},
            id="a model's request takes the profile's limit with it",
        ),
        pytest.param(
            CHART,
            PROFILE,
            {"limits": {"nvidia.com/gpu": 0}},
            {"nvidia.com/gpu": 0, "memory": "32Gi"},
            {"cpu": 4},
            id="nothing of a device is said too",
        ),
        pytest.param(
            CHART,
            None,
            {"limits": {"cpu": 2}, "requests": {"cpu": "500m"}},
            {"cpu": 2, "memory": "4Gi"},
            {"cpu": "500m", "memory": "4Gi"},
            id="both of one layer stay together",
        ),
    ],
)
def test_each_resource_is_settled_by_the_strongest_layer_that_mentions_it(
    chart: Any, profile: Any, own: Any, limits: dict[str, Any], requests: dict[str, Any]
) -> None:
    by = settings(
        server={"image": "server:1", "resources": chart or {}},
        profiles={"given": {"resources": profile or {}}},
    )
    spec = {} if own is None else {"resources": own}
    verdict = accepted(model(profile="given", **spec), by)
    assert verdict.resources == Resources(limits=limits, requests=requests)


def test_claims_of_devices_come_from_the_strongest_layer_that_has_any() -> None:
    by = settings(profiles={"given": {"resources": {"claims": [{"name": "gpu"}]}}})
    assert [one.name for one in accepted(model(profile="given"), by).resources.claims] == ["gpu"]
    own = {"claims": [{"name": "half"}]}
    assert [one.name for one in accepted(model(profile="given", resources=own), by).resources.claims] == [
        "half"
    ]


def template(profile: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return what comes of a profile's template and a model's own, without what nobody says."""
    verdict: Model = accepted(
        model(profile="given", template=own), settings(profiles={"given": {"template": profile}})
    )
    return verdict.template.model_dump(mode="json", by_alias=True, exclude_defaults=True)


GPU = {"key": "nvidia.com/gpu", "operator": "Exists"}
SPOT = {"key": "spot", "operator": "Exists"}


@pytest.mark.parametrize(
    ("profile", "own", "both"),
    [
        pytest.param({"image": "a"}, {}, {"image": "a"}, id="the profile alone"),
        pytest.param({}, {"image": "b"}, {"image": "b"}, id="the model alone"),
        pytest.param({"image": "a"}, {"image": "b"}, {"image": "b"}, id="the model's word is the last"),
        pytest.param(
            {"nodeSelector": {"gpu": "h100", "zone": "a"}},
            {"nodeSelector": {"zone": "b"}},
            {"nodeSelector": {"gpu": "h100", "zone": "b"}},
            id="maps join, key by key",
        ),
        pytest.param(
            {"tolerations": [GPU]},
            {"tolerations": [SPOT]},
            {"tolerations": [GPU, SPOT]},
            id="tolerations join",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            {"env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]},
            id="variables join by name",
        ),
        pytest.param(
            {"envFrom": [{"configMapRef": {"name": "a"}}]},
            {"envFrom": [{"secretRef": {"name": "b"}}]},
            {"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]},
            id="sources of variables join",
        ),
        pytest.param(
            {"volumeMounts": [{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "mine", "mountPath": "/b"}, {"name": "data", "mountPath": "/c"}]},
            {
                "volumeMounts": [
                    {"name": "data", "mountPath": "/a"},
                    {"name": "mine", "mountPath": "/b"},
                    {"name": "data", "mountPath": "/c"},
                ]
            },
            id="mounts join by path",
        ),
        pytest.param(
            {"affinity": {"nodeAffinity": {"x": 1}}},
            {"affinity": {"podAntiAffinity": {"y": 2}}},
            {"affinity": {"nodeAffinity": {"x": 1}, "podAntiAffinity": {"y": 2}}},
            id="affinities of two kinds join",
        ),
    ],
)
def test_the_models_template_is_laid_over_its_profiles(
    profile: dict[str, Any], own: dict[str, Any], both: dict[str, Any]
) -> None:
    assert template(profile, own) == both


def test_lists_may_be_longer_together_than_each_may_be_written() -> None:
    many = [{"key": f"taint-{number}", "operator": "Exists"} for number in range(40)]
    assert len(template({"tolerations": many}, {"tolerations": many})["tolerations"]) == 80
