"""`GET /v1/models`: what is served, in the shape of OpenAI's API, with each model's state beside it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rerank_api.errors import ApiError, ErrorCode, error_body
from rerank_api.faces import MODELS_PATH
from rerank_api.status import SERVING, ModelState
from rerank_gateway import playground
from rerank_gateway.auth import CONSUMER_HEADER
from rerank_gateway.bounds import RETRY_AFTER_S
from rerank_gateway.models import ServedModel
from rerank_gateway.paths import DEMAND_PATH, nothing_at
from rerank_gateway.publication import Publication
from rerank_gateway.sharing import SharedName
from rerank_gateway.snapshot import Snapshot


def describe(model: ServedModel, names: Sequence[str]) -> dict[str, object]:
    """Describe one public name; `owned_by` is the RerankModel that serves it, or the most of it.

    `names` are all names of that RerankModel. What is not known is left out: a model that was never ready has
    told no facts.
    """
    described: dict[str, object] = {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.model,
        "names": list(names),
        "state": model.state.value,
        "message": model.message,
    }
    known = {
        "progress": model.progress,
        "family": model.facts.family,
        "max_model_len": model.facts.max_length,
        "score_scale": model.facts.score_scale,
    }
    described |= {name: value for name, value in known.items() if value is not None}
    if isinstance(model, SharedName):
        described["shared_by"] = [
            {"model": part.model.model, "weight": part.weight, "state": part.model.state.value}
            for part in model.parts
        ]
    return described


def names_by_model(models: Mapping[str, ServedModel]) -> Mapping[str, Sequence[str]]:
    """Return the names of each RerankModel among these, in their order."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, model in models.items():
        parts = (part.model for part in model.parts) if isinstance(model, SharedName) else (model,)
        for owner in parts:
            names[owner.model].append(name)
    return names


def as_routed(model: ServedModel, is_routed: Callable[[str], bool]) -> ServedModel:
    """Return the model as it is to be told: ready means that a request that is sent now is answered."""
    if is_routed(model.name):
        return model
    if isinstance(model, SharedName):
        parts = tuple(replace(part, model=_on_its_way(part.model)) for part in model.parts)
        model = replace(model, parts=parts)
    return _on_its_way(model)


def _on_its_way(model: ServedModel) -> ServedModel:
    if model.state not in SERVING:
        return model
    message = "Its server is ready; the gateway takes it up."
    return replace(model, state=ModelState.LOADING, message=message, progress=None)


def app(publication: Publication, is_routed: Callable[[str], bool], *beside: Route) -> Starlette:
    """Build the app that lists what is published; 503 `gateway_starting` until something is.

    The playground is served beside it, from the first moment: it shows what the list says. So are the other
    routes, which are for whoever reaches this socket, not for callers.
    `is_routed` says whether requests for a public name arrive: a model that is ready is listed so only then.
    Where Envoy asks for keys, it says whose a request's key is: a consumer sees the models that it may call.
    """

    def snapshot() -> Snapshot:
        if publication.snapshot is None:
            raise ApiError(
                ErrorCode.GATEWAY_STARTING,
                "The gateway does not know its models yet: try again in a moment.",
                retry_after=RETRY_AFTER_S,
            )
        return publication.snapshot

    def visible(request: Request) -> Mapping[str, ServedModel]:
        return snapshot().visible_to(request.headers.get(CONSUMER_HEADER))

    async def every(request: Request) -> Response:
        seen = visible(request)
        names = names_by_model(seen)
        models = [describe(as_routed(model, is_routed), names[model.model]) for model in seen.values()]
        return _json({"object": "list", "data": models})

    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        seen = visible(request)
        model = seen.get(name)
        if model is None:
            raise ApiError(
                ErrorCode.MODEL_NOT_FOUND,
                f"The model `{name}` does not exist here: GET /v1/models lists those that do.",
                param="model",
            )
        return _json(describe(as_routed(model, is_routed), names_by_model(seen)[model.model]))

    return Starlette(
        routes=[
            Route(MODELS_PATH, every),
            Route(f"{MODELS_PATH}/{{name:path}}", one),
            *playground.routes(),
            *beside,
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
    )


def demand_route(demand: Callable[[], Mapping[str, object]]) -> Route:
    """Return the page that says how many requests wait for which model."""

    async def waiting(_: Request) -> Response:
        return _json(demand())

    return Route(DEMAND_PATH, waiting)


async def _api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return _json(error.body(), error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path or a method other than GET."""
    if not isinstance(error, HTTPException):
        raise error
    code = ErrorCode.METHOD_NOT_ALLOWED if error.status_code == 405 else ErrorCode.NOT_FOUND
    message = nothing_at(f"{request.method} {request.url.path}")
    return _json(error_body(code, message), error.status_code, dict(error.headers or {}))


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
