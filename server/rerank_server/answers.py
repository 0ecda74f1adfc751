"""How this server answers: JSON by orjson, and every error in the shape of the face that was asked."""

import logging

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from rerank_api.errors import MORE_HEADERS, ApiError, ErrorCode
from rerank_server.faces.dialects import face_at
from rerank_server.faces.interface import Answer, Face

log = logging.getLogger(__name__)

_CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def face_response(answer: Answer) -> Response:
    """Return what a face has written."""
    return json_response(answer.content, answer.status, dict(answer.headers))


def refusal_response(face: Face, error: ApiError) -> Response:
    """Return an error in a face's shape, with the headers that go with it."""
    response = face_response(face.refuse(error))
    response.headers.update(MORE_HEADERS.get(error.code, {}))
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def add_error_answers(app: FastAPI) -> None:
    """Answer our own errors, Starlette's refusals and whatever else fails in the shape of the face asked."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return refusal_response(_face(request), error)

    @app.exception_handler(HTTPException)
    async def refusal(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path[:256]}"
        sentence = {
            404: "there is nothing at this path.",
            405: "this path takes another method.",
        }.get(error.status_code, error.detail)
        code = _CODES.get(error.status_code, ErrorCode.INVALID_REQUEST)
        response = refusal_response(_face(request), ApiError(code, f"{where}: {sentence}"))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("unexpected failure", exc_info=error)
        message = "The server failed on this request; its log says why."
        return refusal_response(_face(request), ApiError(ErrorCode.INTERNAL, message))


def _face(request: Request) -> Face:
    face = getattr(request.state, "face", None)
    return face if isinstance(face, Face) else face_at(request.url.path)
