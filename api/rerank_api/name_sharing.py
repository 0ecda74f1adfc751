"""Who answers under a public name that several models claim: the oldest, and whom it shares the name with.

Pure. Operator, gateway and local runner each apply it by themselves, to what each of them knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rerank_api.names import Seniority


@dataclass(frozen=True)
class Claim:
    """One RerankModel that claims a public name."""

    seniority: Seniority
    """As `rerank_api.names.seniority` has it; no two models have the same."""
    namespace: str
    """Empty where there are none."""
    model: str
    """Its `metadata.name`: its own name."""
    weight: int | None = None
    """Its `spec.weight`; None where it says none."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.model}" if self.namespace else self.model


def holders(name: str, claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return who answers under a public name, the oldest first; nobody where nobody claims it.

    The oldest always does. With it do all that offer to share, as it does, in its namespace. Who does not
    share takes nothing from those who do: a model that comes later cannot end a split.
    """
    ordered = sorted(claims, key=lambda claim: claim.seniority)
    if not ordered:
        return ()
    oldest, *others = ordered
    if not _offers(name, oldest):
        return (oldest,)
    return (
        oldest,
        *(claim for claim in others if claim.namespace == oldest.namespace and _offers(name, claim)),
    )


def share(name: str, holder: Claim) -> int:
    """Return the weight of one holder's part of a name's requests; 0 is none of them, however few hold it.

    Under its own name, and where it says no weight, a model is alone and has all.
    """
    return holder.weight if holder.weight is not None and _offers(name, holder) else 1


def advice(name: str, loser: Claim, oldest: Claim) -> str:
    """Say what the author of a model can do whose name the oldest has: how a sentence ends."""
    if loser.namespace != oldest.namespace:
        return _unshared("only models of one namespace share a name")
    if name in {loser.model, oldest.model}:
        return _unshared(f"`{name}` is a model's own name (metadata.name), and such are not shared")
    silent = [claim.weight is None for claim in (loser, oldest)]
    where = "on both" if all(silent) else f"on {oldest} too" if silent[1] else "here too"
    return f"choose another in spec.names, remove it there, or set spec.weight {where} to share it"


def _offers(name: str, claim: Claim) -> bool:
    """Say whether a model would share a name: by its own name everybody reaches it alone."""
    return claim.weight is not None and claim.model != name


def _unshared(why: str) -> str:
    return f"choose another in spec.names, or remove it there; {why}"
