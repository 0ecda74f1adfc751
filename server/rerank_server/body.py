"""Read a request's body as JSON, within a limit."""

import orjson
from starlette.requests import Request

from rerank_api.errors import ApiError, ErrorCode


async def read_json(request: Request, max_bytes: int) -> object:
    """Return the parsed body.

    Raises `ApiError`: `request_too_large` as soon as more than `max_bytes` are announced or have arrived,
    `invalid_json` with the place of the fault where orjson refuses the bytes.
    """
    raw = await _read(request, max_bytes)
    if not raw:
        raise ApiError(ErrorCode.INVALID_JSON, "The request has no body: send a JSON object.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(
            ErrorCode.INVALID_JSON,
            f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).",
        ) from error


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(max_bytes: int) -> ApiError:
    """Say how large a body may be and what to do with a larger one."""
    return ApiError(
        ErrorCode.REQUEST_TOO_LARGE,
        f"The request body is larger than {max_bytes} bytes: send the documents in several requests.",
    )
