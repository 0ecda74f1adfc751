"""The structural schema of a custom resource, made from its pydantic type.

Kubernetes takes OpenAPI v3 without references, without `anyOf` for types and without `additionalProperties`
beside `properties`; a field that may be absent is simply not required.
Format: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from rerank_api.fields import Path
from rerank_api.resource import ApiModel

Schema: TypeAlias = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

_KEPT: Final = (
    "type",
    "format",
    "description",
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
)


@cache
def structural_schema(resource: type[ApiModel]) -> Schema:
    """Return the schema of a custom resource's type. Shared: callers must not change it."""
    described = resource.model_json_schema(by_alias=True, mode="validation")
    schema = _structural(described, described.get("$defs", {}))
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": "Version of this resource's schema."}
    properties["kind"] = {"type": "string", "description": "Kind of this resource."}
    properties["metadata"] = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema["required"] = ["spec"]
    return schema


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    node = _inlined(node, definitions)
    schema: Schema = {key: node[key] for key in _KEPT if key in node}
    schema |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    if "const" in node:
        schema["enum"] = [node["const"]]
    if properties := node.get("properties"):
        schema["properties"] = {name: _structural(child, definitions) for name, child in properties.items()}
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    values = node.get("additionalProperties")
    if isinstance(values, Mapping) and not node.get(PRESERVE):
        schema["additionalProperties"] = _structural(values, definitions)
    default = node.get("default")
    if isinstance(default, Mapping):
        schema["default"] = {}  # what is in it has defaults of its own
    elif default is not None and default != []:
        schema["default"] = default
    return schema


def _inlined(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a reference by what it names, and "this or null" by this; keywords beside them win."""
    while True:
        beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in node:
            node = {**definitions[node["$ref"].rpartition("/")[2]], **beside}
        elif "anyOf" in node and INT_OR_STRING not in node:
            (only,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
            node = {**only, **beside}
        else:
            return node


def child_of(schema: Schema, step: str | int) -> Schema | None:
    """Return the schema of a field or an item, or None where anything may stand or nothing is declared."""
    if isinstance(step, int):
        items: Schema | None = schema.get("items")
        return items
    child: Schema | None = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    return child


def schema_at(schema: Schema, path: Path) -> Schema | None:
    """Return the schema at a path, or None as `child_of`."""
    node: Schema | None = schema
    for step in path:
        if node is None:
            return None
        node = child_of(node, step)
    return node


def with_defaults(schema: Schema, value: Any) -> Any:
    """Return a copy of a JSON value with the schema's defaults filled in, as an API server does."""
    if isinstance(value, Mapping):
        filled = dict(value)
        for name, child in schema.get("properties", {}).items():
            if "default" in child and name not in filled:
                filled[name] = child["default"]
        return {
            name: item if (child := child_of(schema, name)) is None else with_defaults(child, item)
            for name, item in filled.items()
        }
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(schema["items"], item) for item in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
