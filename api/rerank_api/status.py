"""How far a server is, and how a model stands: the words that users read in every status.

A server reports `ServerStatus` on `/status`; operator, local runner and gateway show `ModelState`.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ServerState(StrEnum):
    """The life of one server process, in order; `FAILED` can follow any state before `READY`."""

    DOWNLOADING = "downloading"
    LOADING = "loading"
    VERIFYING = "verifying"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class ModelState(StrEnum):
    """How a model stands, over all of its replicas."""

    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    VERIFYING = "Verifying"
    READY = "Ready"
    IDLE = "Idle"
    DEGRADED = "Degraded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The condition types in a RerankModel's status."""

    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    VERIFIED = "Verified"
    READY = "Ready"


class CamelModel(BaseModel):
    """A frozen value whose JSON names are camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Verification(CamelModel):
    """What the comparison of computed with expected scores found before the server took traffic."""

    checked: int
    """How many scores were compared."""
    max_deviation: float
    """The largest absolute difference, in units of the score."""
    passed: bool


class ServerStatus(CamelModel):
    """The body of a server's `/status`."""

    state: ServerState
    progress: float | None = None
    """Share of the current state's work that is done, 0 to 1; None where it cannot be known."""
    message: str
    """One sentence for a person: what is going on, or what is wrong and what to do."""
    names: tuple[str, ...] = ()
    family: str | None = None
    engine: str | None = None
    revision: str | None = None
    max_length: int | None = None
    """Tokens of a query and a document together (sequence classification), or of one text (embedding)."""
    verification: Verification | None = None
    queued_tokens: int = 0
    tokens_per_second: float | None = None
    """Measured over the last busy minute; None before the first request."""
