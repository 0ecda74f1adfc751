"""What a family promises: it recognises its checkpoints and opens them for ranking."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from rerank_api.score_scale import ScoreScale
from rerank_server.engine.interface import Engine, Outputs, Row, Vectors
from rerank_server.errors import InputError
from rerank_server.families.checkpoint import CheckpointFiles
from rerank_server.families.scales import Scale, logistic

Truncate: TypeAlias = Literal["document", "error"]
"""What happens to a text that is too long: its end is cut off, or the request is refused."""

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]


class Declined(Exception):  # noqa: N818  # not an error: the next engine is asked
    """An engine does not take a checkpoint; its text says why, without a full stop."""


@dataclass(frozen=True)
class Fit:
    """Whether a family can serve a checkpoint, and one sentence why or why not."""

    fits: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """How to open a checkpoint."""

    device: str
    dtype: Dtype
    max_length: int | None
    """Tokens of a row, as the manifest asks; None takes the checkpoint's own."""
    batch_tokens: int
    """Padded tokens of one forward pass, at most; a longer row runs alone."""
    engine: str = "auto"
    """The engine by its name, or auto."""
    instruction: str | None = None
    """What a model that takes instructions is told where a request says nothing; None is its own default."""


@dataclass(frozen=True)
class Cut:
    """How documents are shortened."""

    truncate: Truncate
    max_document_tokens: int | None = None
    """Tokens of its own that are kept of each document, before anything else is cut."""
    max_row_tokens: int | None = None
    """Tokens of a whole row, at most; the model's own bound holds besides. A query that leaves no token of it
    to a document is refused."""

    def row_length(self, max_length: int, beside: int) -> int:
        """Return how long a row with `beside` tokens besides a document's may be. Raises `InputError`."""
        if self.max_row_tokens is None or self.max_row_tokens >= max_length:
            return max_length
        if beside >= self.max_row_tokens:
            raise InputError(
                f"`max_row_tokens` is {self.max_row_tokens}, and query and special tokens are {beside} by "
                "themselves: raise it, or shorten the query.",
                "max_row_tokens",
            )
        return self.max_row_tokens


@dataclass(frozen=True)
class EncodedQuery:
    """A query as tokens, and the rows that it needs for itself."""

    ids: Sequence[int]
    rows: tuple[Row, ...] = ()
    after: Sequence[int] = ()
    """Ids that follow the document in each row, where the query is told after it."""


class Ranker(Protocol):
    """An open checkpoint's texts -> rows and outputs -> scores. Several threads may call it at once."""

    @property
    def takes_instruction(self) -> bool:
        """Say whether the family has a place for an instruction."""

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
        """Encode the query, with the instruction of this request where there is one.

        Raises `InputError` where it is too long, or no text. Not called with an instruction unless
        `takes_instruction`.
        """

    def encode_documents(
        self, query: EncodedQuery, documents: Sequence[str], cut: Cut, first: int = 0
    ) -> list[Row]:
        """Encode documents, one row each. `first` is the index of the first of them in the request.

        Raises `InputError` about `documents[index]`.
        """

    def scores(self, outputs: Outputs, rows: Sequence[Row]) -> Vectors:
        """Turn the engine's outputs, one for each of `rows`, the query's first, into raw scores.

        Returns fp32, [documents].
        """


@dataclass(frozen=True)
class ModelFacts:
    """What texts are encoded by, besides the tokenizer."""

    positions: int | None
    """Tokens that a row may have; None where the configuration does not say."""
    takes_type_ids: bool
    pad_id: int


@dataclass(frozen=True)
class Computed:
    """A checkpoint with its weights loaded."""

    engine: Engine
    reason: str
    """Why this engine, in a sentence without its full stop."""
    facts: ModelFacts


@dataclass(frozen=True)
class Opened:
    """A checkpoint that is ready to rank."""

    ranker: Ranker
    computed: Computed
    max_length: int
    scale: Scale = logistic
    """What its raw scores are between 0 and 1."""
    score_scale: ScoreScale = ScoreScale.LOGIT
    """What its raw scores are."""


class Family(Protocol):
    """A kind of checkpoint."""

    @property
    def name(self) -> str:
        """Return what the manifest writes in `scoring.family`."""

    @property
    def summary(self) -> str:
        """Say what it takes, to complete the sentence 'Supported are: …'."""

    def recognise(self, files: CheckpointFiles, *, named: bool) -> Fit:
        """Say whether this is one of its checkpoints; `named` where the manifest names this family.

        Raises `LoadError` where a file that decides it cannot be read.
        """

    def open(self, files: CheckpointFiles, plan: Plan) -> Opened:
        """Load the checkpoint. Raises `LoadError`."""
