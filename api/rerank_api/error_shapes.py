"""Errors in the shapes and statuses of other APIs, the same whether a server or the gateway refuses.

What is not named here answers in the one error body of `rerank_api.errors`. vLLM's and Infinity's shapes have
the same fields as that one, so that the gateway needs no others for their paths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rerank_api.errors import KINDS, ErrorCode, error_body
from rerank_api.faces import COHERE_V1_PATHS, COHERE_V2_PATHS, TEI_PATHS, VOYAGE_PATHS


@dataclass(frozen=True)
class Shaped:
    """An error as a caller gets it."""

    status: int
    body: dict[str, object]


Shape: TypeAlias = Callable[[ErrorCode, str, str | None], Shaped]
"""(code, message, field to blame) -> the error in one API's shape."""


def native(code: ErrorCode, message: str, param: str | None = None) -> Shaped:
    """Write the one error body."""
    return Shaped(KINDS[code].status, dict(error_body(code, message, param)))


def cohere(code: ErrorCode, message: str, _: str | None = None) -> Shaped:
    """Write `{"message": ...}`; what is wrong with a field is a 400, as everything in a body is to Cohere."""
    return Shaped(400 if code is ErrorCode.INVALID_VALUE else KINDS[code].status, {"message": message})


def voyage(code: ErrorCode, message: str, _: str | None = None) -> Shaped:
    """Write `{"detail": ...}`; what is wrong with a field is a 400, an unknown model too."""
    of_the_request = {ErrorCode.INVALID_VALUE, ErrorCode.MODEL_NOT_FOUND}
    return Shaped(400 if code in of_the_request else KINDS[code].status, {"detail": message})


_TEI_TYPES = {
    ErrorCode.RATE_LIMIT_EXCEEDED: "Overloaded",
    ErrorCode.OVERLOADED: "Overloaded",
    ErrorCode.INTERNAL: "Backend",
    ErrorCode.TIMEOUT: "Backend",
    ErrorCode.MODEL_NOT_READY: "Unhealthy",
    ErrorCode.REPLICA_FAILED: "Unhealthy",
    ErrorCode.GATEWAY_STARTING: "Unhealthy",
}


def tei(code: ErrorCode, message: str, _: str | None = None) -> Shaped:
    """Write `{"error", "error_type"}`; a failure of the model is a 424."""
    status = 424 if code is ErrorCode.INTERNAL else KINDS[code].status
    return Shaped(status, {"error": message, "error_type": _TEI_TYPES.get(code, "Validation")})


@dataclass(frozen=True)
class Region:
    """Where the gateway answers in a shape of another API."""

    name: str
    prefix: str
    """Below it, whether there is something or not."""
    paths: tuple[str, ...]
    """And at these paths."""
    shape: Shape

    def holds(self, path: str) -> bool:
        """Say whether a path is in here."""
        return path.startswith(self.prefix) or path in self.paths


REGIONS = (
    Region("cohere", "/cohere/", (*COHERE_V1_PATHS, *COHERE_V2_PATHS), cohere),
    Region("voyage", "/voyage/", VOYAGE_PATHS, voyage),
    Region("tei", "/tei/", TEI_PATHS, tei),
)


def shape_at(path: str) -> Shape:
    """Return the shape in which the gateway refuses a request to a path."""
    return next((region.shape for region in REGIONS if region.holds(path)), native)
