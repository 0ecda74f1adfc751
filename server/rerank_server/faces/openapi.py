"""The OpenAPI document of every face: schemas from the types that bodies are read and written by."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import API_HEADER
from rerank_server.faces.dialects import BY_PATH, FACES, SHARED, may_answer
from rerank_server.faces.interface import Face
from rerank_server.faces.tei import TEI

SERVER_CODES = (
    ErrorCode.INVALID_JSON,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.INVALID_VALUE,
    ErrorCode.MODEL_NOT_FOUND,
    ErrorCode.REQUEST_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.OVERLOADED,
    ErrorCode.INTERNAL,
    ErrorCode.MODEL_NOT_READY,
    ErrorCode.REPLICA_FAILED,
    ErrorCode.TIMEOUT,
)
"""What a server may answer a ranking with; other codes are the gateway's, or of other paths."""

MEANING = {
    200: "The ranking",
    400: "The body or a field of it is not as it must be",
    404: "No such model",
    413: "The body is too large",
    415: "The body is compressed",
    422: "A field holds what it may not",
    424: "The model failed",
    429: "Too much is waiting: try again after Retry-After",
    500: "The model failed",
    503: "Not ready: try again after Retry-After",
    504: "It took too long",
}

Json = dict[str, Any]


def openapi(app: FastAPI) -> Json:
    """Describe the application's own routes, and every face on its paths."""
    document = get_openapi(
        title="Reranking",
        version="1",
        summary="Documents in the order of their relevance to a query, in the words of seven APIs.",
        routes=app.routes,
    )
    schemas, references = _schemas()
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(schemas)
    document["paths"] = {
        **{path: {"post": _operation(path, references)} for path in BY_PATH},
        **document["paths"],
    }
    document["tags"] = [{"name": face.title, "description": face.notes} for face in FACES]
    return document


def error_statuses(face: Face) -> set[int]:
    """Return the statuses of the errors that a face may answer with."""
    return {face.refuse(ApiError(code, "")).status for code in SERVER_CODES}


def _schemas() -> tuple[Json, dict[tuple[str, str], Json]]:
    """Return the components, and the schema of each face's request, response and error by its title."""
    kinds: list[tuple[tuple[str, str], Any]] = []
    for face in FACES:
        kinds += [
            ((face.title, "request"), face.request),
            ((face.title, "response"), face.response),
            ((face.title, "error"), face.error),
        ]
    built, definitions = TypeAdapter.json_schemas(
        [(key, "validation", _adapter(kind)) for key, kind in kinds],
        ref_template="#/components/schemas/{model}",
    )
    return definitions.get("$defs", {}), {key: built[key, "validation"] for key, _ in kinds}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter[Any](kind)


def _operation(path: str, references: dict[tuple[str, str], Json]) -> Json:
    faces = may_answer(path)
    named = "_".join(part for part in path.split("/") if part)
    operation: Json = {
        "tags": [face.title for face in faces[:1]],
        "operationId": named,
        "summary": f"{faces[0].title}: rank texts",
        "description": faces[0].notes,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _any_of(references[face.title, "request"] for face in faces),
                    "example": dict(faces[0].example),
                }
            },
        },
        "responses": {
            str(status): {"description": MEANING[status], "content": {"application/json": {"schema": schema}}}
            for status, schema in _responses(faces, references)
        },
    }
    if path in SHARED:
        operation["parameters"] = [_chooser(path, faces)]
    return operation


def _chooser(path: str, faces: tuple[Face, ...]) -> Json:
    """Describe the header that chooses among the faces of a path."""
    by_shape = ", or that of text-embeddings-inference for a body with `texts`" if TEI in faces else ""
    return {
        "name": API_HEADER,
        "in": "header",
        "required": False,
        "description": f"Whose API is spoken; without it that of {faces[0].title}{by_shape}.",
        "schema": {"type": "string", "enum": list(SHARED[path])},
    }


def _responses(faces: Iterable[Face], references: dict[tuple[str, str], Json]) -> Iterable[tuple[int, Json]]:
    faces = tuple(faces)
    yield 200, _any_of(references[face.title, "response"] for face in faces)
    for status in sorted(set().union(*map(error_statuses, faces))):
        yield (
            status,
            _any_of(references[face.title, "error"] for face in faces if status in error_statuses(face)),
        )


def _any_of(schemas: Iterable[Json]) -> Json:
    different: list[Json] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return different[0] if len(different) == 1 else {"anyOf": different}
