"""The OpenAPI document as a page that needs no script, no style sheet and no font from elsewhere."""

import json
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: #f3f3f3; border-radius: 4px; }
code { padding: 0 .25em; } pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .6rem .3rem 0; vertical-align: top; }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #161616; } code, pre { background: #262626; }
  h2, td, th { border-color: #444; } a { color: #8ab4f8; }
}
"""


def page(document: Json) -> str:
    """Render a document as `rerank_server.faces.openapi` builds it."""
    operations = [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    tags = [tag["name"] for tag in document["tags"]]
    sections = [_face(document, tag, operations) for tag in tags]
    others = [each for each in operations if not set(each[2].get("tags", ())) & set(tags)]
    links = " · ".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in tags)
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{escape(document['info']['summary'])} "
        f'For programs: <a href="openapi.json">openapi.json</a>.</p><p>{links}</p>'
        f"{''.join(sections)}{_others(others)}</body></html>"
    )


def _face(document: Json, tag: str, operations: list[tuple[str, str, Json]]) -> str:
    own = [(path, operation) for path, _, operation in operations if operation.get("tags") == [tag]]
    # The path that speaks this dialect and no other shows it best.
    path, operation = max(own, key=lambda each: "parameters" not in each[1])
    content = operation["requestBody"]["content"]["application/json"]
    paths = " ".join(f"<code>POST {escape(each)}</code>" for each, _ in own)
    example = json.dumps(content["example"])
    answers = "".join(
        f"<details><summary>{status}: {escape(answer['description'])}</summary>"
        f"{_schema(document, answer['content']['application/json']['schema'])}</details>"
        for status, answer in operation["responses"].items()
    )
    return (
        f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2><p>{paths}</p><p>{escape(operation["description"])}</p>'
        f"<pre>curl http://localhost:8000{escape(path)} -H 'Content-Type: application/json' \\\n"
        f"  -d '{escape(example, quote=False)}'</pre>"
        f"<h3>Request</h3>{_schema(document, content['schema'])}<h3>Answers</h3>{answers}"
    )


def _schema(document: Json, schema: Json) -> str:
    """Render an object's fields as a table, with the tables of the objects in them below."""
    tables: list[str] = []
    waiting, seen = [schema], set[str]()
    while waiting:
        current = waiting.pop(0)
        name, resolved = _resolve(document, current)
        if name in seen:
            continue
        if name:
            seen.add(name)
        waiting += (*resolved.get("anyOf", ()), *filter(None, [resolved.get("items")]))
        if "properties" not in resolved:
            continue
        waiting += resolved["properties"].values()
        required = set(resolved.get("required", ()))
        rows = "".join(
            f"<tr><td><code>{escape(field)}</code></td><td>{escape(_kind(inner))}"
            f"{' (required)' if field in required else ''}</td><td>{_limits(inner)}</td></tr>"
            for field, inner in resolved["properties"].items()
        )
        heading = f"<strong>{escape(name)}</strong>: " if name else ""
        tables.append(f"<p>{heading}{escape(resolved.get('description', ''))}</p><table>{rows}</table>")
    return "".join(tables)


def _resolve(document: Json, schema: Json) -> tuple[str, Json]:
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    return name, document["components"]["schemas"][name] if name else schema


def _kind(schema: Json) -> str:
    """Write a schema's type in a few words: `string or list of strings`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(map(json.dumps, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def _limits(schema: Json) -> str:
    """Write a field's description and default."""
    words = escape(schema.get("description", ""))
    if schema.get("default") is not None:
        words += f" Default: <code>{escape(json.dumps(schema['default']))}</code>."
    return words.strip()


def _others(operations: list[tuple[str, str, Json]]) -> str:
    rows = "".join(
        f"<tr><td><code>{method} {escape(path)}</code></td><td>{escape(operation['summary'])}</td></tr>"
        for path, method, operation in operations
    )
    return f"<h2>The server itself</h2><table>{rows}</table>"


def _anchor(tag: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in tag.lower())
