"""Turn pydantic's findings about a request body into one sentence about one field."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rerank_api.errors import ApiError, ErrorCode

Model = TypeVar("Model", bound=BaseModel)


def parse_request(model: type[Model], body: object) -> Model:
    """Validate `body` as `model`, or raise `ApiError` about the first field that is wrong."""
    if not isinstance(body, dict):
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"The request body is {_json_type(body)}: send a JSON object."
        )
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = field_path(first["loc"])
        raise ApiError(ErrorCode.INVALID_VALUE, f"`{field}` {_complaint(first)}.", field) from error


def field_path(location: Sequence[int | str]) -> str:
    """Write a location as users do: `documents[3].text`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


_COMPLAINTS = {
    "missing": "is required",
    "string_type": "is {found}: it must be a string",
    "list_type": "is {found}: it must be a list",
    "bool_type": "is {found}: it must be true or false",
    "int_type": "is {found}: it must be a whole number",
    "string_too_short": "is empty: give it text",
    "too_short": "is empty: give at least one",
    "too_long": "holds too many: at most {max_length} fit into one request",
    "greater_than_equal": "is {input}: it must be at least {ge}",
    "less_than_equal": "is {input}: it must be at most {le}",
}
"""Sentences by pydantic's error type; a type of our own brings its own sentence."""


def _complaint(error: ErrorDetails) -> str:
    sentence = _COMPLAINTS.get(error["type"])
    if sentence is None:
        return error["msg"]
    return sentence.format(found=_json_type(error["input"]), input=error["input"], **error.get("ctx", {}))


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
