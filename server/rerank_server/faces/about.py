"""What this server says of its faces and its model: `/openapi.json`, `/docs`, and the lists of models."""

import functools
import time

import orjson
from fastapi import FastAPI, Request, Response

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import MODELS_PATH
from rerank_server.answers import json_response
from rerank_server.faces.openapi import openapi
from rerank_server.faces.page import page
from rerank_server.lifecycle import Lifecycle

LISTS = (MODELS_PATH, "/vllm/v1/models", "/infinity/models")
"""Clients of these APIs ask for the models before they ask for anything else."""


def add_descriptions(app: FastAPI, lifecycle: Lifecycle) -> None:
    """Serve the documents, built when they are first asked for, and the one model under all of its names."""
    started = int(time.time())

    @functools.cache
    def document() -> bytes:
        return orjson.dumps(openapi(app))

    @functools.cache
    def documentation() -> str:
        return page(orjson.loads(document()))

    async def openapi_json(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    async def docs(_: Request) -> Response:
        return Response(documentation(), media_type="text/html")

    async def models(request: Request) -> Response:
        listed = [described(name, request.url.path) for name in lifecycle.manifest.public_names]
        return json_response({"object": "list", "data": listed})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in lifecycle.manifest.public_names:
            raise ApiError(
                ErrorCode.MODEL_NOT_FOUND,
                f"The model `{name[:253]}` is not served here: GET {MODELS_PATH} lists those that are.",
                "model",
            )
        return json_response(described(name, request.url.path))

    def described(name: str, path: str) -> dict[str, object]:
        status = lifecycle.status()
        return {
            "id": name,
            "object": "model",
            "created": started,
            # Infinity's client takes no other word there.
            "owned_by": "infinity" if path.startswith("/infinity/") else lifecycle.manifest.metadata.name,
            "family": status.family,
            "max_model_len": status.max_length,
            "score_scale": status.score_scale,
            "state": status.state.value,
            "message": status.message,
            # What Infinity's client does not read a model without.
            "stats": {"queued_tokens": status.queued_tokens},
            "backend": "torch",
            "capabilities": ["rerank"],
        }

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)
    app.add_route("/docs", docs, include_in_schema=False)
    for path in LISTS:
        app.add_route(path, models, include_in_schema=False)
        app.add_route(f"{path}/{{name:path}}", model, include_in_schema=False)
