"""Whether one more request may wait, and when to come back otherwise. Pure: no clock, no threads.

A request is let in whole, once, before any work is spent on it, so that an overloaded server spends nothing
on what it refuses. Its tokens are estimated from its characters then, and counted once it is tokenized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

LARGE_BATCHES = 16
"""A request of more tokens than that many full batches hold is a large one."""
QUEUE_S = 30.0
"""By default as much may wait, of small requests and of large ones each, as is computed in this time."""
LONGEST_RETRY_S = 60
FIRST_TOKENS_PER_CHARACTER = 0.3
"""English has a quarter of a token a character, Chinese and Japanese up to one."""
DOUBTED_CHARACTERS = 10_000
REMEMBERED_CHARACTERS = 1_000_000
"""The first estimate weighs as much as the one, what was counted never more than the other."""
SAMPLED_CHARACTERS = 2_000
"""A document weighs no more than one with so many: megabytes of spaces say nothing of other texts."""


class Size(StrEnum):
    """Large and small requests wait under bounds of their own: one large one must not shut out small ones."""

    SMALL = "small"
    LARGE = "large"


class Full(StrEnum):
    """Which bound a refused request ran into."""

    SMALL = "small"
    LARGE = "large"
    REQUESTS = "requests"
    TEXT = "text"


@dataclass(frozen=True)
class Limits:
    """How much may wait; None is no bound."""

    large_from: int
    """A request of more tokens than this is large."""
    tokens: int | None = None
    """Tokens that may wait, of small requests and of large ones each."""
    requests: int | None = None
    """Requests that are not answered."""
    characters: int | None = None
    """Characters of their queries and documents, which are kept until they are answered."""

    def size(self, tokens: int) -> Size:
        """Say which bound a request of so many tokens counts against."""
        return Size.LARGE if tokens > self.large_from else Size.SMALL


@dataclass(frozen=True)
class Demand:
    """What one request asks for."""

    tokens: int
    characters: int

    def __add__(self, other: "Demand") -> "Demand":
        """Return what both ask for together."""
        return Demand(self.tokens + other.tokens, self.characters + other.characters)


@dataclass(frozen=True)
class Load:
    """What is there already."""

    requests: int = 0
    characters: int = 0
    tokens: Mapping[Size, int] = field(default_factory=dict)
    """That wait, by the size of their requests."""


@dataclass(frozen=True)
class Refusal:
    """Why a request may not wait, and after how many seconds there should be room for it."""

    full: Full
    message: str
    """A sentence for the caller."""
    retry_after: int


def decide(demand: Demand, load: Load, limits: Limits, tokens_per_second: float | None) -> Refusal | None:
    """Say whether a request may wait: None lets it in.

    A request that is larger than a bound by itself is let in when nothing else counts against that bound, so
    that it is never refused for ever.
    """
    size = limits.size(demand.tokens)
    waiting = load.tokens.get(size, 0)
    if limits.tokens is not None and waiting and waiting + demand.tokens > limits.tokens:
        excess = waiting + demand.tokens - max(limits.tokens, demand.tokens)
        return Refusal(
            Full(size),
            f"The queue is full: {waiting} tokens of {size} requests wait, and this one has about "
            f"{demand.tokens} more, of {limits.tokens} that may.",
            retry_after(excess, tokens_per_second),
        )
    everything = sum(load.tokens.values())
    if limits.requests is not None and load.requests >= limits.requests:
        share = -(-everything * (load.requests + 1 - limits.requests) // max(1, load.requests))
        return Refusal(
            Full.REQUESTS,
            f"The queue is full: {load.requests} requests are not answered yet, and no more may wait.",
            retry_after(share, tokens_per_second),
        )
    if (
        limits.characters is not None
        and load.characters
        and load.characters + demand.characters > limits.characters
    ):
        excess = load.characters + demand.characters - max(limits.characters, demand.characters)
        return Refusal(
            Full.TEXT,
            f"The queue is full: requests with {load.characters} characters of text wait, and this one has "
            f"{demand.characters} more, of {limits.characters} that may.",
            retry_after(-(-everything * excess // load.characters), tokens_per_second),
        )
    return None


def retry_after(tokens: int, tokens_per_second: float | None) -> int:
    """Return the whole seconds, 1 to 60, in which so many tokens are computed; 1 where no speed is known."""
    if not tokens_per_second or tokens <= 0:
        return 1
    return max(1, min(LONGEST_RETRY_S, int(-(-tokens // tokens_per_second))))


def default_tokens(tokens_per_second: float | None, large_from: int) -> int | None:
    """Return the bound in tokens that goes with a measured speed: never less than four large requests."""
    if tokens_per_second is None:
        return None
    return max(4 * large_from, int(QUEUE_S * tokens_per_second))


@dataclass(frozen=True)
class Sample:
    """What the documents of one request say of how many tokens a character has."""

    characters: float = 0.0
    """With the query's, which is in each row."""
    tokens: float = 0.0


def sampled(query: str, documents: Sequence[str], lengths: Sequence[int], whole_below: int) -> Sample:
    """Sum up documents whose rows have these lengths in tokens.

    Rows of `whole_below` and more may have been cut, which leaves tokens out: they say nothing.
    """
    characters = tokens = 0.0
    for document, length in zip(documents, lengths, strict=True):
        count = len(query) + len(document)
        if count and length < whole_below:
            share = min(1.0, SAMPLED_CHARACTERS / count)
            characters += count * share
            tokens += length * share
    return Sample(characters, tokens)


class Estimate:
    """Tokens before they are counted, from characters: as many a character as there were of late."""

    def __init__(self, max_length: int) -> None:
        """`max_length` is in tokens: no row is longer, whatever its text."""
        self._max_length = max_length
        self._per_character = FIRST_TOKENS_PER_CHARACTER
        self._weight = float(DOUBTED_CHARACTERS)

    def tokens(self, query: str, documents: Sequence[str]) -> int:
        """Estimate the tokens of a request; at least one a document."""
        beside = len(query)
        longest = self._max_length / self._per_character
        characters = sum(min(longest, beside + len(document)) for document in documents)
        return max(len(documents), int(characters * self._per_character))

    def learn(self, sample: Sample) -> None:
        """Take in what was counted. One request weighs no more than the first estimate did."""
        if not sample.characters:
            return
        characters = min(sample.characters, DOUBTED_CHARACTERS)
        self._weight += characters
        counted = sample.tokens / sample.characters
        self._per_character += (counted - self._per_character) * characters / self._weight
        self._weight = min(self._weight, REMEMBERED_CHARACTERS)
