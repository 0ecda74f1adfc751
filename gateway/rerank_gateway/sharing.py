"""Public names that RerankModels share by weight: who has a part, and the whole as one model. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rerank_api import name_sharing
from rerank_api.name_sharing import Claim
from rerank_api.names import seniority
from rerank_api.status import SERVING, ModelState
from rerank_gateway.models import Facts, Part, ServedModel

_FURTHEST_FIRST: Final = (
    ModelState.VERIFYING,
    ModelState.LOADING,
    ModelState.DOWNLOADING,
    ModelState.PENDING,
    ModelState.IDLE,
    ModelState.FAILED,
)
"""How far a model without replicas is from taking requests."""


@dataclass(frozen=True)
class SharedName(ServedModel):
    """A public name as its callers see it: `model` is the RerankModel with the largest part.

    `endpoints` are those of all that take requests. A single part is there where its weight is 0.
    """

    parts: tuple[Part, ...] = ()
    """The oldest first."""

    @property
    def wakes(self) -> str:
        """The RerankModel that a request wakes where none has replicas: the largest that may be woken."""
        sleeping = [part for part in self.parts if part.weight and part.model.from_zero]
        return _largest(sleeping).model if sleeping else self.model


def settle(name: str, claimants: Sequence[ServedModel]) -> tuple[ServedModel, tuple[str, ...]]:
    """Return what is served under a name, and the RerankModels that claim it in vain, sorted.

    `claimants` come the oldest first, and are at least one.
    """
    by_model: dict[str, ServedModel] = {}
    for claimant in claimants:
        by_model.setdefault(claimant.model, claimant)
    found = name_sharing.holders(name, map(claim_of, by_model.values()))
    parts = tuple(Part(by_model[str(claim)], name_sharing.share(name, claim)) for claim in found)
    losers = tuple(sorted(by_model.keys() - {part.model.model for part in parts}))
    if len(parts) == 1 and parts[0].weight:
        return parts[0].model, losers
    return _joined(name, parts), losers


def claim_of(model: ServedModel) -> Claim:
    """Return a model's claim. `namespace/name` is taken apart: as one text, `a-b/x` comes before `a/x`."""
    namespace, _, name = model.model.rpartition("/")
    return Claim(seniority(model.created, namespace, name), namespace, name, model.weight)


def _joined(name: str, parts: tuple[Part, ...]) -> SharedName:
    taking = [part.model for part in parts if part.weight]
    state, progress = _standing(taking)
    told = ", ".join(f"{part.model.model} ({part.weight}) {part.model.state}" for part in parts)
    return SharedName(
        name=name,
        model=_largest(parts).model,
        state=state,
        message=f"Shared by weight: {told}.",
        endpoints=tuple(endpoint for model in taking for endpoint in model.endpoints),
        created=parts[0].model.created,
        progress=progress,
        from_zero=any(model.from_zero for model in taking),
        facts=_agreed([model.facts for model in taking]),
        parts=parts,
    )


def _agreed(told: Sequence[Facts]) -> Facts:
    """Return what is true of each: of lengths the shortest, of words those that all have said."""
    families, scales = {facts.family for facts in told}, {facts.score_scale for facts in told}
    lengths = [facts.max_length for facts in told if facts.max_length is not None]
    return Facts(
        family=families.pop() if len(families) == 1 else None,
        max_length=min(lengths) if len(lengths) == len(told) > 0 else None,
        score_scale=scales.pop() if len(scales) == 1 else None,
    )


def _standing(taking: Sequence[ServedModel]) -> tuple[ModelState, float | None]:
    """Say how the whole stands: ready if all are, degraded if some take no requests that should."""
    if not taking:
        return ModelState.IDLE, None
    if any(model.endpoints for model in taking):
        whole = all(model.endpoints and model.state is ModelState.READY for model in taking)
        return ModelState.READY if whole else ModelState.DEGRADED, None
    # A state that says ready is out of date where there are no replicas.
    waiting = [model for model in taking if model.state not in SERVING]
    if not waiting:
        return ModelState.PENDING, None
    furthest = min(waiting, key=lambda model: _FURTHEST_FIRST.index(model.state))
    return furthest.state, furthest.progress


def _largest(parts: Sequence[Part]) -> ServedModel:
    return max(parts, key=lambda part: part.weight).model
