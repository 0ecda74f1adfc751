"""What the chart's files say, without helm: versions, definitions, values and their schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_api import __version__, crd
from rerank_api.pod import QUANTITY_PATTERN, PodTemplate
from rerank_operator.settings import IngressSettings, ParentReference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema(chart: Path) -> dict[str, Any]:
    return json.loads((chart / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def values(chart: Path) -> dict[str, Any]:
    return yaml.safe_load((chart / "values.yaml").read_text())


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object within a schema, with its path; `if` and its branches only narrow another."""
    if schema.get("type") == "object":
        yield path, schema
    for keyword in ("properties", "definitions"):
        for name, child in schema.get(keyword, {}).items():
            yield from schemas(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from schemas(schema[keyword], f"{path}[]")


def test_the_chart_has_the_version_of_the_code(chart: Path) -> None:
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == (__version__, __version__)


def test_the_charts_definitions_are_those_in_crds(chart: Path) -> None:
    assert crd.stale(chart / "files" / "crds") == []
    for path in (ROOT / "crds").iterdir():
        assert (chart / "files" / "crds" / path.name).read_bytes() == path.read_bytes()


def test_every_value_and_no_other_is_in_the_schema(schema: dict[str, Any], values: dict[str, Any]) -> None:
    def compare(value: object, described: dict[str, Any], path: str) -> None:
        while "$ref" in described:
            described = schema["definitions"][described["$ref"].removeprefix("#/definitions/")]
        if isinstance(value, dict) and value and "properties" in described:
            optional = {"limits", "claims"} if path.endswith("resources") else {"global"}
            assert described["properties"].keys() - optional == value.keys() - optional, path
            for name, item in value.items():
                compare(item, described["properties"][name], f"{path}.{name}".lstrip("."))

    compare(values, schema, "")


def test_the_schema_leaves_open_only_what_kubernetes_itself_checks(schema: dict[str, Any]) -> None:
    open_ones = {path for path, one in schemas(schema) if "additionalProperties" not in one}
    passed_on = "affinity|podSecurityContext|containerSecurityContext|securityContext|valueFrom|global"
    lists = "imagePullSecrets|topologySpreadConstraints|resourceClaims|envFrom|volumes|volumeMounts"
    for path in open_ones:
        assert re.search(rf"[.](?:{passed_on}|(?:{lists})\[\])$", path), path


def test_a_profiles_template_has_the_fields_of_a_models(schema: dict[str, Any]) -> None:
    fields = {field.alias for field in PodTemplate.model_fields.values()}
    assert schema["definitions"]["podTemplate"]["properties"].keys() == fields
    assert schema["definitions"]["quantities"]["additionalProperties"]["pattern"] == QUANTITY_PATTERN


def test_what_goes_into_the_operators_settings_has_their_fields(schema: dict[str, Any]) -> None:
    ingress = schema["properties"]["gateway"]["properties"]["models"]["properties"]["ingress"]
    assert ingress["properties"].keys() == {field.alias for field in IngressSettings.model_fields.values()}
    parent = {field.alias for field in ParentReference.model_fields.values()}
    assert schema["definitions"]["parentRefs"]["items"]["properties"].keys() == parent


def test_every_value_is_explained_on_its_line(chart: Path) -> None:
    text = (chart / "values.yaml").read_text()
    security = text.index("podSecurityContext:")  # what is inside is Kubernetes' own
    for line in text[:security].splitlines():
        if re.match(r" *[A-Za-z]+: +[^ #]", line) and not re.match(r" *(?:requests|limits):", line):
            assert re.search(r" # \S", line), line


@pytest.mark.parametrize("name", ["nvidia-h100", "cpu"])
def test_the_example_profiles_in_the_values_are_valid(chart: Path, name: str) -> None:
    text = (chart / "values.yaml").read_text()
    example = re.search(r"^profiles: \{\}.*\n((?:  # .*\n)+)", text, re.MULTILINE)
    assert example is not None
    profile = yaml.safe_load(re.sub(r"^  # ", "", example[1], flags=re.MULTILINE))[name]
    assert profile["resources"]
    PodTemplate.model_validate(profile.get("template", {}), by_alias=True, by_name=False)
