import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_api import crd
from rerank_api.fields import parse
from rerank_api.manifests import Document, read_text
from rerank_api.rerank_model import RerankModel
from rerank_api.rules import KEYWORD
from rerank_api.schema import INT_OR_STRING, PRESERVE, Schema, schema_at, structural_schema
from rerank_api.tree import plain
from rerank_api.yaml_tree import compose

ROOT = Path(__file__).parents[2]

# What a structural schema may hold; among what it may not: $ref, anyOf for types, title, examples,
# additionalProperties: false, exclusive bounds as numbers, uniqueItems: true.
ALLOWED = {
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "properties",
    "items",
    "additionalProperties",
    KEYWORD,
    INT_OR_STRING,
    PRESERVE,
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}

DEFINITIONS = [pytest.param(definition, id=definition.kind) for definition in crd.DEFINITIONS]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


def test_the_files_in_crds_are_what_the_types_give() -> None:
    assert crd.stale(ROOT / "crds") == []


def test_a_changed_a_missing_and_a_left_over_file_are_stale(tmp_path: Path) -> None:
    crd.write(tmp_path)
    assert crd.stale(tmp_path) == []
    changed, missing = sorted(crd.render())
    (tmp_path / changed).write_text("# changed\n")
    (tmp_path / missing).unlink()
    (tmp_path / "old.yaml").write_text("# of a kind that is no more\n")
    assert crd.stale(tmp_path) == sorted([changed, missing, "old.yaml"])
    crd.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(crd.render())


def test_every_file_is_the_definition_that_it_says_and_says_that_it_is_generated() -> None:
    rendered = crd.render()
    for definition in crd.DEFINITIONS:
        text = rendered[definition.file_name]
        assert "make generate" in text.splitlines()[0]
        assert yaml.safe_load(text) == definition.manifest()
        assert plain(compose(text).documents[0]) == definition.manifest()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_schema_is_structural(definition: crd.Definition) -> None:
    for path, schema in nodes(structural_schema(definition.resource)):
        assert schema.keys() <= ALLOWED, path
        assert ("type" in schema) is (INT_OR_STRING not in schema), path
        assert not ({"properties", "additionalProperties"} <= schema.keys()), path
        if schema.get("type") == "array":
            assert "items" in schema, path
        if schema.get("type") == "object":
            assert {"properties", "additionalProperties", PRESERVE} & schema.keys() or path == ".metadata", (
                path
            )
        assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), path


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_field_is_described_in_a_sentence(definition: crd.Definition) -> None:
    for path, schema in nodes(structural_schema(definition.resource)):
        if not path.endswith("[]") and not path.startswith(".metadata"):
            assert re.fullmatch(r"[A-Z`a-z0-9].*[.…]", schema.get("description", "")), path


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_lists_keyed_by_a_field_require_that_field(definition: crd.Definition) -> None:
    for path, schema in nodes(structural_schema(definition.resource)):
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            assert key in schema["items"]["required"], path


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_what_rules_read_is_bounded(definition: crd.Definition) -> None:
    for path, schema in nodes(structural_schema(definition.resource)):
        if path.startswith(".metadata") or path in {".apiVersion", ".kind"}:
            continue
        if schema.get("type") == "array" and any(KEYWORD in inner for _, inner in nodes(schema)):
            assert "maxItems" in schema, path
        if schema.get("type") == "string" and KEYWORD in schema:
            assert "maxLength" in schema, path


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_rules_blame_fields_that_the_schema_has(definition: crd.Definition) -> None:
    for path, schema in nodes(structural_schema(definition.resource)):
        for rule in schema.get(KEYWORD, ()):
            blamed = rule.get("fieldPath", "")
            assert schema_at(schema, parse(blamed.removeprefix("."))) is not None, (path, blamed)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_columns_and_subresources_lead_to_fields(definition: crd.Definition) -> None:
    schema = structural_schema(definition.resource)
    (version,) = definition.manifest()["spec"]["versions"]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += version.get("subresources", {}).get("scale", {}).values()
    for path in paths:
        if path != ".metadata.creationTimestamp":
            assert schema_at(schema, parse(path.removeprefix("."))) is not None, path


def test_a_model_shows_what_its_users_ask_first() -> None:
    (version,) = crd.DEFINITIONS[0].manifest()["spec"]["versions"]
    columns = {column["name"]: column.get("priority", 0) for column in version["additionalPrinterColumns"]}
    assert columns == {"NAMES": 0, "STATE": 0, "READY": 0, "GPU": 0, "AGE": 0, "MESSAGE": 1}
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_the_defaults_are_those_of_the_types() -> None:
    """What an API server fills in is what a laptop assumes."""
    fixed = {
        "spec.scoring.family": "auto",
        "spec.scoring.activation": "none",
        "spec.scoring.dtype": "auto",
        "spec.scoring.truncate": "document",
        "spec.verify.required": True,
        "spec.verify.goldens[].tolerance": 0.01,
        "spec.autoscaling.minReplicas": 1,
        "spec.autoscaling.targetQueueSeconds": 0.5,
        "spec.autoscaling.idleAfter": "10m",
        "spec.source.huggingFace.revision": "main",
        "spec.template.volumeMounts[].readOnly": False,
    }
    found = {
        path.removeprefix("."): schema["default"]
        for path, schema in nodes(structural_schema(RerankModel))
        if schema.get("default", {}) != {}
    }
    assert found == fixed


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def test_the_full_manifest_of_these_tests_and_the_manual_know_every_field(full_model: str) -> None:
    documents: tuple[Document, ...] = read_text(full_model, "m.yaml")
    used = set(_words(plain(documents[0].tree)))
    manual = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    elsewhere = {
        "s3",
        "oci",
        "pvc",
        "hostPath",
        "file",
        "package",
        "uri",
        "endpoint",
        "secret",
        "claim",
        "path",
    }
    for definition in crd.DEFINITIONS:
        spec = structural_schema(definition.resource)["properties"]["spec"]
        for path, _ in nodes(spec):
            name = path.rpartition(".")[2].removesuffix("[]")
            if name and path.endswith(name):
                assert re.search(rf"\b{re.escape(name)}\b", manual), (
                    f"docs/manifest.md does not tell of {path}"
                )
                if definition.kind == "RerankModel":
                    assert name in used | elsewhere | {"replicas", "image"}, path


def test_every_manifest_in_the_manual_can_be_applied() -> None:
    manual = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    manifests = re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)
    assert len(manifests) >= 3
    for manifest in manifests:
        assert read_text(manifest, "manifest.md")
