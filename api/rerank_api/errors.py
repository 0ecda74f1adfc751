"""The one error body, and the one table from error code to HTTP status.

Every error that a user sees over HTTP, whoever answers it (Envoy, the gateway's agent, a server), has the
shape that OpenAI's API made common and that most clients parse::

    {"error": {"message": "...", "type": "...", "code": "...", "param": "..." | null}}
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorType(StrEnum):
    """Who has to act: the caller, the caller later, or the operator of the service."""

    INVALID_REQUEST = "invalid_request_error"
    RATE_LIMIT = "rate_limit_error"
    SERVER = "server_error"


class ErrorCode(StrEnum):
    """What went wrong, stable for programs to branch on."""

    INVALID_JSON = "invalid_json"
    MISSING_MODEL = "missing_model"
    INVALID_REQUEST = "invalid_request"
    INVALID_VALUE = "invalid_value"
    INVALID_API_KEY = "invalid_api_key"
    MODEL_FORBIDDEN = "model_forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"
    MODEL_NOT_READY = "model_not_ready"
    REPLICA_FAILED = "replica_failed"
    GATEWAY_STARTING = "gateway_starting"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Kind:
    """How a code travels over HTTP."""

    status: int
    type: ErrorType


KINDS: dict[ErrorCode, Kind] = {
    ErrorCode.INVALID_JSON: Kind(400, ErrorType.INVALID_REQUEST),
    ErrorCode.MISSING_MODEL: Kind(400, ErrorType.INVALID_REQUEST),
    ErrorCode.INVALID_REQUEST: Kind(400, ErrorType.INVALID_REQUEST),
    ErrorCode.INVALID_VALUE: Kind(422, ErrorType.INVALID_REQUEST),
    ErrorCode.INVALID_API_KEY: Kind(401, ErrorType.INVALID_REQUEST),
    ErrorCode.MODEL_FORBIDDEN: Kind(403, ErrorType.INVALID_REQUEST),
    ErrorCode.MODEL_NOT_FOUND: Kind(404, ErrorType.INVALID_REQUEST),
    ErrorCode.NOT_FOUND: Kind(404, ErrorType.INVALID_REQUEST),
    ErrorCode.METHOD_NOT_ALLOWED: Kind(405, ErrorType.INVALID_REQUEST),
    ErrorCode.REQUEST_TOO_LARGE: Kind(413, ErrorType.INVALID_REQUEST),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: Kind(415, ErrorType.INVALID_REQUEST),
    ErrorCode.RATE_LIMIT_EXCEEDED: Kind(429, ErrorType.RATE_LIMIT),
    ErrorCode.OVERLOADED: Kind(429, ErrorType.RATE_LIMIT),
    ErrorCode.INTERNAL: Kind(500, ErrorType.SERVER),
    ErrorCode.MODEL_NOT_READY: Kind(503, ErrorType.SERVER),
    ErrorCode.REPLICA_FAILED: Kind(503, ErrorType.SERVER),
    ErrorCode.GATEWAY_STARTING: Kind(503, ErrorType.SERVER),
    ErrorCode.TIMEOUT: Kind(504, ErrorType.SERVER),
}


MORE_HEADERS: dict[ErrorCode, dict[str, str]] = {
    # RFC 9110, 12.5.3 and 15.5.16: which codings of a body are taken. It is the only reason for this code.
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: {"accept-encoding": "identity"},
}
"""Headers that always go with a code."""

COMPRESSED = (
    "The request body has a Content-Encoding, but only plain JSON is read here: send it uncompressed."
)
"""The sentence for `unsupported_media_type`."""


@dataclass(eq=False)
class ApiError(Exception):
    """An error for the caller of an HTTP API.

    `message` says what is wrong, where, and what to do. `param` is the path of the field in the request
    body, as `documents[3].text`, or None where no one field is to blame.
    """

    code: ErrorCode
    message: str
    param: str | None = None
    retry_after: int | None = None
    """Seconds after which trying again makes sense; sent as `Retry-After`."""

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return KINDS[self.code].status

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the one error body, ready for JSON."""
        return error_body(self.code, self.message, self.param)

    def __str__(self) -> str:
        return self.message


def error_body(code: ErrorCode, message: str, param: str | None = None) -> dict[str, dict[str, str | None]]:
    """Build the one error body for an answer that no `ApiError` raised (Envoy's own answers)."""
    return {"error": {"message": message, "type": KINDS[code].type.value, "code": code.value, "param": param}}
