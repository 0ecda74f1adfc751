"""How far a server is, and how a model stands: the words that users read in every status.

A server reports `ServerStatus` on `/status`; operator, local runner and gateway show `ModelState`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler
from pydantic.alias_generators import to_camel
from pydantic.functional_validators import WrapValidator

from rerank_api.score_scale import ScoreScale


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


MODEL_STATE_OF: Final[Mapping[ServerState, ModelState]] = {
    ServerState.DOWNLOADING: ModelState.DOWNLOADING,
    ServerState.LOADING: ModelState.LOADING,
    ServerState.VERIFYING: ModelState.VERIFYING,
    ServerState.WARMING: ModelState.VERIFYING,
    ServerState.READY: ModelState.READY,
    ServerState.DRAINING: ModelState.PENDING,
    ServerState.FAILED: ModelState.FAILED,
}
"""How a model stands whose only replica is in a state."""

SERVING: Final = frozenset({ModelState.READY, ModelState.DEGRADED})
"""How a model stands that has a replica which takes requests."""

SLOWEST_FIRST: Final = (
    ModelState.FAILED,
    ModelState.PENDING,
    ModelState.DOWNLOADING,
    ModelState.LOADING,
    ModelState.VERIFYING,
    ModelState.READY,
)
"""From the replica that holds its model up most to the one that does not."""


class ConditionType(StrEnum):
    """The condition types in a RerankModel's status."""

    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    VERIFIED = "Verified"
    READY = "Ready"


def _none_of_ours(value: object, known: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    """Read a newer server's word as None; what this program writes is held to the words that it has."""
    try:
        return known(value)
    except ValidationError:
        if info.mode == "json" and isinstance(value, str):
            return None
        raise


_OrNewer = WrapValidator(_none_of_ours)
"""Marks a field without whose word the rest of a status still counts."""


class CamelModel(BaseModel):
    """A frozen value whose JSON names are camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Verification(CamelModel):
    """What the last comparison of computed with expected scores found."""

    checked: int
    """How many scores were compared."""
    max_deviation: float
    """The largest absolute difference, in units of the score."""
    passed: bool
    sets: tuple[str, ...] = ()
    """What was compared, in words: the manifest's goldens, published ones, the self-check."""


class ServerStatus(CamelModel):
    """The body of a server's `/status`.

    Servers may be newer than who reads this. A field that is not known here is passed over, and a word that
    is not known is None, but for the state, without which nothing can be read: such a server counts as one
    that does not answer yet, and whether it takes traffic is for its readiness to say.
    """

    state: ServerState
    progress: float | None = None
    """Share of the current state's work that is done, 0 to 1; None where it cannot be known."""
    message: str
    """One sentence for a person: what is going on, or what is wrong and what to do."""
    failure: str | None = None
    """What went wrong last, without when it is tried again; None once that step has gone well."""
    failed_in: Annotated[ServerState | None, _OrNewer] = None
    """The state in which that happened."""
    names: tuple[str, ...] = ()
    family: str | None = None
    engine: str | None = None
    engine_reason: str | None = None
    """Why this engine computes the model, and what the better ones said."""
    revision: str | None = None
    max_length: int | None = None
    """Tokens of a query and a document together (sequence classification), or of one text (embedding)."""
    score_scale: Annotated[ScoreScale | None, _OrNewer] = None
    """Of the scores that it answers with where a request asks for no other; None before it is loaded."""
    verification: Verification | None = None
    queued_tokens: int = 0
    tokens_per_second: float | None = None
    """Measured over the last busy minute, of all workers together; None before the first request."""
    workers: str | None = None
    """How many threads compute batches, of how many torch threads each: what was fastest at warm-up."""
