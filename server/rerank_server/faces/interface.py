"""What a face is: one dialect's paths, and how it is read, written and refused in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel

from rerank_api.errors import ApiError
from rerank_server.ranking import Ranking, RankRequest

Blame: TypeAlias = Callable[[int, str], str]
"""(number of the rank request, field in the core's words) -> the field as the caller wrote it."""


@dataclass(frozen=True)
class Answer:
    """A response in the words of a dialect, ready for JSON."""

    content: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def same_words(_: int, param: str) -> str:
    """Blame a field in the core's own words."""
    return param


@dataclass(frozen=True)
class Asked:
    """What a body asks for: the queries to rank, and how their rankings are answered."""

    requests: tuple[RankRequest, ...]
    """One a query; all are ranked or none."""
    write: Callable[[Sequence[Ranking], float], Answer]
    """Write the answer from one ranking a request, and the seconds that it all took."""
    blame: Blame = same_words


@dataclass(frozen=True)
class Face:
    """One dialect of one endpoint."""

    name: str
    """How the header chooses it, and how metrics count it."""
    title: str
    """Whose API it is, for a person."""
    paths: tuple[str, ...]
    """Where it answers without being chosen."""
    request: type[BaseModel]
    response: Any
    """The type of the response body; it is what answers are documented by, nothing is validated with it."""
    error: Any
    """The type of an error's body."""
    read: Callable[[object], Asked]
    """Translate a parsed body, or raise `ApiError`."""
    refuse: Callable[[ApiError], Answer]
    """Write an error in the dialect's shape and status, without `Retry-After`."""
    notes: str
    """What is particular about it, for a person."""
    example: Mapping[str, object]
    """A request body to try."""


def renamed(**names: str) -> Blame:
    """Blame fields by other names: `renamed(documents="texts")` makes `documents[3]` into `texts[3]`."""

    def blame(_: int, param: str) -> str:
        field_name, bracket, rest = param.partition("[")
        return f"{names.get(field_name, field_name)}{bracket}{rest}"

    return blame
