"""What every face translates into and from: a request to rank, and a ranking."""

from dataclasses import dataclass

from rerank_server.families.interface import Truncate
from rerank_server.load import Activation


@dataclass(frozen=True)
class RankRequest:
    """One query and its documents, in the words of no dialect."""

    model: str | None
    """The public name that the caller used; None where it gave none."""
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool = True
    truncate: Truncate | None = None
    """What to do with a pair that is too long; None leaves it to the manifest."""
    max_document_tokens: int | None = None
    max_row_tokens: int | None = None
    """Tokens of query, document and special tokens together, at most; documents are cut to it."""
    activation: Activation | None = None
    """The scale of the scores; None leaves it to the manifest."""
    instruction: str | None = None
    """For models that take one; others refuse it."""


@dataclass(frozen=True)
class Ranking:
    """Scores of all documents, and their order."""

    model: str
    scores: tuple[float, ...]
    """In the order of the request's documents."""
    order: tuple[int, ...]
    """Indices of the documents, best first, ties by index."""
    tokens: int
    """Token ids that the model ran."""
    tokenize_seconds: float | None = None
    """Turning texts into rows; None where it was not measured, as for the two below."""
    queue_seconds: float | None = None
    """From admission to the first batch that holds a row of the request."""
    compute_seconds: float | None = None
    """From there to the last batch."""

    def best(self, top_n: int | None) -> list[tuple[int, float]]:
        """Return (index, score) of the `top_n` best documents, or of all."""
        return [(index, self.scores[index]) for index in self.order[:top_n]]
