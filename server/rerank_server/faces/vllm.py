"""What vLLM's rerank and score endpoints share: options, errors, the refusal of what is not done here.

Without `truncate_prompt_tokens` a pair that is too long is a 400. Differences that are meant: only documents
are cut, so that `max_tokens_per_query` is refused, and so is a `truncate_prompt_tokens` that the query fills.
"""

import uuid
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from rerank_api.errors import ApiError, ErrorCode
from rerank_server.faces.fields import RequestBody
from rerank_server.faces.interface import Answer
from rerank_server.families.interface import Truncate
from rerank_server.load import Activation

CUT_TO_THE_MODEL = -1
CORE_WORDS = {"max_document_tokens": "max_tokens_per_doc", "max_row_tokens": "truncate_prompt_tokens"}
"""The core's words for what callers call otherwise here."""


def _not_nothing(tokens: int | None) -> int | None:
    if tokens == 0:
        raise PydanticCustomError("nothing", "is 0, which keeps nothing: use -1 for what the model takes")
    return tokens


def _no_cut_of_queries(tokens: int) -> int:
    if tokens:
        raise PydanticCustomError("cut_of_queries", "is set, and queries are never cut here: leave it out")
    return tokens


class VllmOptions(RequestBody):
    """What both endpoints take besides texts."""

    model: str | None = None
    """The public name; it may be left out where a header, the path or the host has chosen."""
    truncate_prompt_tokens: Annotated[int | None, Field(ge=-1), AfterValidator(_not_nothing)] = None
    """Documents are cut until a pair has this many tokens, -1: as many as the model takes. Without it a pair
    that is too long is refused."""
    truncation_side: Literal["left", "right"] | None = None
    """Left is refused where a document would have to be cut."""
    max_tokens_per_query: Annotated[int, AfterValidator(_no_cut_of_queries)] = 0
    """Only 0: queries are never cut."""
    max_tokens_per_doc: Annotated[int, Field(ge=0)] = 0
    """Tokens that are kept of each document, at most; 0 keeps all."""
    instruction: str | None = None
    """For models that take one; others refuse it."""
    priority: int = 0
    """Taken and not acted on: small requests go before large ones by themselves."""
    use_activation: bool | None = None
    """False: the model's own scores; else between 0 and 1."""
    activation: bool | None = None
    """An older name of `use_activation`."""

    @property
    def truncate(self) -> Truncate:
        """Cut what is too long only where the caller asks for it, and only at the end."""
        asked = self.truncate_prompt_tokens is not None and self.truncation_side != "left"
        return "document" if asked else "error"

    @property
    def max_row_tokens(self) -> int | None:
        """Return how many tokens a pair may have; None where that is the model's to say."""
        return None if self.truncate_prompt_tokens == CUT_TO_THE_MODEL else self.truncate_prompt_tokens

    @property
    def scale(self) -> Activation:
        """Return the scale of the scores."""
        return "none" if False in (self.use_activation, self.activation) else "sigmoid"


class VllmErrorDetail(TypedDict):
    """What went wrong; `code` is the status."""

    message: str
    type: str
    param: str | None
    code: int


class VllmError(TypedDict):
    """An error in vLLM's shape."""

    error: VllmErrorDetail


_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "RequestTooLargeError",
    429: "TooManyRequestsError",
    503: "ServiceUnavailableError",
    504: "TimeoutError",
}


def refuse(error: ApiError) -> Answer:
    """Write OpenAI's shape with the status as the code; what is wrong with a field is a 400."""
    status = 400 if error.code is ErrorCode.INVALID_VALUE else error.status
    body: VllmError = {
        "error": {
            "message": error.message,
            "type": _TYPES.get(status, "InternalServerError"),
            "param": error.param,
            "code": status,
        }
    }
    return Answer(body, status)


def new_id(kind: str) -> str:
    """Name one answer: `rerank-…`, `score-…`."""
    return f"{kind}-{uuid.uuid4().hex}"
