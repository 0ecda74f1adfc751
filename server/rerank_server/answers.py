"""How this server answers: JSON by orjson, and every error in the one error body."""

import logging

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from rerank_api.errors import ApiError, ErrorCode, error_body

log = logging.getLogger(__name__)


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def add_error_answers(app: FastAPI) -> None:
    """Answer our own errors, Starlette's refusals and whatever else fails in the one error body."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
        return json_response(error.body(), error.status, headers)

    @app.exception_handler(HTTPException)
    async def refusal(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path}"
        match error.status_code:
            case 404:
                body = error_body(ErrorCode.NOT_FOUND, f"{where}: there is nothing at this path.")
            case 405:
                body = error_body(ErrorCode.METHOD_NOT_ALLOWED, f"{where}: this path takes another method.")
            case _:
                body = error_body(ErrorCode.INVALID_REQUEST, f"{where}: {error.detail}")
        return json_response(body, error.status_code, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        log.error("unexpected failure", exc_info=error)
        message = "The server failed on this request; its log says why."
        return json_response(error_body(ErrorCode.INTERNAL, message), 500)
