"""Types of request fields that several dialects share, with sentences for what is wrong with them."""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_DOCUMENTS = 10_000
"""Of one request: what the largest public APIs take."""


class RequestBody(BaseModel):
    """A request body: types are not converted, unknown fields are ignored, as all dialects do."""

    model_config = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True, frozen=True)


def _text_of(document: object) -> object:
    """Unwrap `{"text": ...}`; say what a document may be where it is neither that nor a string."""
    if isinstance(document, str):
        return document
    if isinstance(document, dict):
        if isinstance(document.get("text"), str):
            return document["text"]
        if "image" in document:
            raise PydanticCustomError("image", "holds an image: this model ranks text only")
    raise PydanticCustomError("document", 'must be a string or an object such as {"text": "..."}')


class TextDocument(BaseModel):
    """A document as an object."""

    text: Annotated[str, Field(min_length=1)]


FilledText: TypeAlias = Annotated[str, Field(min_length=1)]

DocumentText: TypeAlias = Annotated[
    str, BeforeValidator(_text_of, json_schema_input_type=FilledText | TextDocument), Field(min_length=1)
]
"""A string, or an object with a `text`."""

TopN: TypeAlias = Annotated[int | None, Field(ge=1)]


def _one_or_many(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and "content" in value:
        raise PydanticCustomError("content", "holds content parts: this model ranks plain strings only")
    raise PydanticCustomError("texts", "must be a string or a list of strings")


OneOrMany: TypeAlias = Annotated[
    list[str],
    Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True),
    BeforeValidator(_one_or_many, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]),
]
"""A text, or a list of texts."""
