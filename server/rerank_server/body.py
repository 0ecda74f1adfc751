"""Read a request's body as JSON, within limits of its size, of its time and of all bodies together."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import orjson
from starlette.requests import Request

from rerank_api.errors import COMPRESSED, ApiError, ErrorCode
from rerank_server.deadlines import Deadline

MOST_BYTES = 256 * 1024 * 1024
"""Of all bodies that are there at once: texts may take as much again, and more, once they are parsed."""
RETRY_AFTER_S = 2


async def read_json(request: Request, held: "Held", deadline: Deadline) -> object:
    """Return the parsed body, which `held` counts.

    Raises `ApiError`: `unsupported_media_type` where it is compressed, `request_too_large` or `overloaded` as
    soon as too much is announced or has arrived, `timeout` where it is not there by the deadline,
    `invalid_json` with the place of the fault where orjson refuses the bytes.
    """
    codings = ", ".join(request.headers.getlist("content-encoding"))
    if codings.lower() not in {"", "identity"}:
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, COMPRESSED)
    try:
        async with asyncio.timeout(deadline.left(time.monotonic())):
            raw = await _read(request, held)
    except TimeoutError as error:
        message = deadline.missed("The request's body did not arrive", "send it without pauses")
        raise ApiError(ErrorCode.TIMEOUT, message) from error
    if not raw:
        raise ApiError(ErrorCode.INVALID_JSON, "The request has no body: send a JSON object.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(
            ErrorCode.INVALID_JSON,
            f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).",
        ) from error


class Bodies:
    """Counts the bytes of all bodies, from their arrival until their requests are answered."""

    def __init__(self, largest: int, most: int = MOST_BYTES) -> None:
        """One may have `largest` bytes, all together `most`."""
        self.largest = largest
        self.most = most
        self.bytes = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator["Held"]:
        """Count one body until the block ends."""
        held = Held(self)
        try:
            yield held
        finally:
            self.bytes -= held.bytes


class Held:
    """One body, as far as it is there."""

    def __init__(self, bodies: Bodies) -> None:
        self.bytes = 0
        self._bodies = bodies

    def announce(self, size: int) -> None:
        """Raise `ApiError` where so many bytes are too many, whatever else there is.

        They do not count before they are there: callers that announce much and send nothing cost nothing.
        """
        if size > self._bodies.largest:
            raise too_large(self._bodies.largest)

    def count(self, size: int) -> None:
        """Count the `size` bytes that are there so far.

        Raises `ApiError`: `request_too_large`, or `overloaded` where it is too much beside others. One that
        is alone is never too much, so that it is not refused for ever.
        """
        self.announce(size)
        others = self._bodies.bytes - self.bytes
        if others and others + size > self._bodies.most:
            raise ApiError(
                ErrorCode.OVERLOADED,
                f"The server holds {others} bytes of other requests, and this one has {size} more, of "
                f"{self._bodies.most} that it may hold: try again.",
                retry_after=RETRY_AFTER_S,
            )
        self._bodies.bytes += size - self.bytes
        self.bytes = size


async def _read(request: Request, held: Held) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        held.announce(int(announced))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        held.count(size)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(max_bytes: int) -> ApiError:
    """Say how large a body may be and what to do with a larger one."""
    return ApiError(
        ErrorCode.REQUEST_TOO_LARGE,
        f"The request body is larger than {max_bytes} bytes: send the documents in several requests.",
    )
