"""A RerankModel's status, from what was seen: pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from rerank_api.name_sharing import Claim, advice, share
from rerank_api.names import MODEL_LABEL
from rerank_api.rerank_model import NameStatus, RerankModelStatus, VerificationResult
from rerank_api.status import SLOWEST_FIRST, ConditionType, ModelState
from rerank_operator.accept import Model, Refused, Verdict
from rerank_operator.conditions import LONGEST_MESSAGE, Said, settle, shortened
from rerank_operator.keys import Key
from rerank_operator.observed import Observed, Pod
from rerank_operator.pods import Obstacle, Reason, Standing, sentence, standing
from rerank_operator.settings import Settings
from rerank_operator.world import claimant

_LONGEST_FACT = 200
"""Characters of a field that names a thing, as of RerankModelStatus."""
_LONGEST_NOTE = 1024
"""Characters of what is said of a name, as of NameStatus."""
_OF_VERIFICATION = frozenset({Reason.VERIFIED, Reason.VERIFICATION_FAILED, Reason.NOT_VERIFIED})


@dataclass(frozen=True)
class Seen:
    """All that a model's status depends on."""

    key: Key
    generation: int
    verdict: Verdict
    names: tuple[str, ...]
    """The public names that the model claims."""
    claim: Claim
    """What it claims them by."""
    holders: Mapping[str, tuple[Claim, ...]]
    """Who keeps each of them, the oldest first."""
    observed: Observed
    before: RerankModelStatus
    obstacle: Obstacle | None = None
    host_holder: Key | None = None
    """Who keeps the model's own host, where it claims one."""


def status_for(seen: Seen, settings: Settings, now: datetime) -> RerankModelStatus:
    """Say how a model stands."""
    names = tuple(_name(name, seen.claim, seen.holders.get(name, ())) for name in seen.names)
    accepted = _accepted(seen, names)
    stands = _standing(seen, accepted)
    said = (accepted, _available(seen.observed), _verified(seen), _ready(stands))
    told = _best_told(seen.observed)
    report = told.report if told is not None else None
    deployment = seen.observed.deployment
    # Facts of a replica outlive it: nothing else would say what a model ran on while it is replaced.
    return RerankModelStatus(
        conditions=settle(said, seen.before.conditions, seen.generation, now),
        state=stands.state,
        message=shortened(stands.message, LONGEST_MESSAGE),
        replicas=deployment.replicas if deployment is not None else 0,
        ready_replicas=len(seen.observed.ready),
        selector=f"{MODEL_LABEL}={seen.key.name}",
        revision=_fact(report.revision if report else None) or seen.before.revision,
        engine=_fact(report.engine if report else None) or seen.before.engine,
        progress_percent=_percent(stands.progress),
        family=_fact(report.family if report else None) or seen.before.family,
        max_length=(report.max_length if report else None) or seen.before.max_length,
        score_scale=(report.score_scale if report else None) or seen.before.score_scale,
        verification=_verification(told) or seen.before.verification,
        names=names,
        served_names=",".join(one.name for one in names if one.accepted) or None,
        gpu=_gpu(seen.verdict),
        url=_url(seen.verdict, settings, has_host=_keeps_host(seen)),
    )


def runnable(names: Iterable[str], key: Key, holders: Mapping[str, tuple[Claim, ...]]) -> bool:
    """Say whether a model has a name to be asked by; without one no server is started for it."""
    return any(key in map(claimant, holders.get(name, ())) for name in names)


def _name(name: str, claim: Claim, holders: tuple[Claim, ...]) -> NameStatus:
    others = [holder for holder in holders if claimant(holder) != claimant(claim)]
    if holders and len(others) == len(holders):
        message = f"The older model {holders[0]} has this name: {advice(name, claim, holders[0])}."
        return NameStatus(name=name, accepted=False, message=message)
    note = _sharing(name, claim, others)
    return NameStatus(name=name, accepted=True, message=shortened(note, _LONGEST_NOTE) if note else None)


def _sharing(name: str, claim: Claim, others: list[Claim]) -> str | None:
    """Say how a model's part of a name's requests is more or less than all."""
    own = share(name, claim)
    none = "" if own else ", and so no request by this name"
    if others:
        beside = ", ".join(f"{other} ({share(name, other)})" for other in others)
        return f"Shared by weight with {beside}; spec.weight here is {own}{none}."
    return None if own else f"spec.weight is 0{none}."


def _accepted(seen: Seen, names: tuple[NameStatus, ...]) -> Said:
    if isinstance(seen.verdict, Refused):
        return Said(ConditionType.ACCEPTED, "False", Reason.REFUSED, seen.verdict.message)
    if seen.obstacle is not None:
        return Said(ConditionType.ACCEPTED, "False", seen.obstacle.reason, seen.obstacle.message)
    lost = [f"`{one.name}`: {one.message}" for one in names if not one.accepted]
    if len(lost) == len(names):
        started = "" if seen.observed.ready else ", and is not started"
        message = f"It has no name left to be asked by{started}. {' '.join(lost)}"
        return Said(ConditionType.ACCEPTED, "False", Reason.NAME_TAKEN, message)
    if not _keeps_host(seen):
        lost.append(f"The older model {seen.host_holder} has the host of spec.ingress: choose another.")
    if lost:
        return Said(ConditionType.ACCEPTED, "True", Reason.NAME_TAKEN, " ".join(lost))
    return Said(ConditionType.ACCEPTED, "True", Reason.ACCEPTED, "The manifest is understood.")


def _standing(seen: Seen, accepted: Said) -> Standing:
    """Say how the model stands over all of its replicas."""
    ready = seen.observed.ready
    if accepted.status == "False":
        if not ready:
            return Standing(ModelState.FAILED, accepted.reason, accepted.message)
        return Standing(ModelState.DEGRADED, accepted.reason, f"{_goes_on(accepted)} {accepted.message}")
    assert isinstance(seen.verdict, Model)  # noqa: S101  # what is accepted was read
    stands = _of_replicas(seen.verdict, seen.observed)
    if accepted.reason is Reason.NAME_TAKEN:
        return replace(stands, message=f"{stands.message} {accepted.message}")
    return stands


def _goes_on(accepted: Said) -> str:
    """Say what the replicas do of a model that is not accepted.

    Where the manifest is refused nothing is changed. Where an object is, as an Ingress, all else may be.
    """
    match accepted.reason:
        case Reason.REFUSED:
            return "Serving as before the change, which is not acted on:"
        case Reason.NAME_TAKEN:
            return "Its replicas run on."
        case _:
            return "Serving, but not all of the manifest is in force:"


def _of_replicas(model: Model, observed: Observed) -> Standing:
    wanted = model.replicas
    if wanted == 0:
        message = "spec.replicas is 0: set it to 1 or more to serve this model."
        return Standing(ModelState.IDLE, Reason.SCALED_TO_ZERO, message)
    if observed.deployment is None:
        return Standing(ModelState.PENDING, Reason.NOT_CREATED, "The Deployment is not there yet.")
    ready = sum(pod.ready for pod in observed.current)
    serving = len(observed.ready)
    if ready >= wanted:
        old = "; what they replace finishes its requests" if serving > ready else ""
        return Standing(ModelState.READY, Reason.READY, f"{_count(ready)} ready{old}.")
    slowest = _slowest(observed)
    if serving > ready:
        return _replacing(serving, slowest)
    if ready:
        message = f"{ready} of {wanted} replicas ready. The next: {slowest.message}"
        return Standing(ModelState.DEGRADED, slowest.reason, message)
    return slowest


def _replacing(serving: int, slowest: Standing) -> Standing:
    """A replacement that is on its way is not a fault; one that fails is."""
    message = f"Serving as before the change with {_count(serving)}. The replacement: {slowest.message}"
    if slowest.state is ModelState.FAILED:
        return Standing(ModelState.DEGRADED, slowest.reason, message)
    return Standing(slowest.state, Reason.ROLLING_OUT, message)


def _slowest(observed: Observed) -> Standing:
    """Return how the replica stands that holds the wanted version up most."""
    coming = [pod for pod in observed.current if not pod.ready]
    # One that was stopped for good is replaced at once, and stays to be seen for long.
    told = [standing(pod) for pod in coming if pod.evicted is None] or [standing(pod) for pod in coming]
    if told:
        return min(told, key=lambda one: SLOWEST_FIRST.index(one.state))
    refusal = observed.deployment.refusal if observed.deployment is not None else None
    if refusal is not None:
        message = f"The API server refuses the pods: {sentence(refusal)}"
        return Standing(ModelState.FAILED, Reason.PODS_REFUSED, message)
    return Standing(ModelState.PENDING, Reason.WAITING_FOR_PODS, "The pods are not there yet.")


def _available(observed: Observed) -> Said:
    ready = len(observed.ready)
    if ready:
        return Said(ConditionType.AVAILABLE, "True", Reason.AVAILABLE, f"{_count(ready)} answering.")
    return Said(ConditionType.AVAILABLE, "False", Reason.WAITING_FOR_PODS, "No replica answers.")


def _ready(stands: Standing) -> Said:
    if stands.state is ModelState.READY:
        return Said(ConditionType.READY, "True", stands.reason, stands.message)
    return Said(ConditionType.READY, "False", stands.reason, stands.message)


def _verified(seen: Seen) -> Said:
    """Speak of the wanted version's replicas; what an older one computed proves nothing about it."""
    told = _best_told(seen.observed)
    found = _verification(told)
    if found is None:
        kept = next((one for one in seen.before.conditions if one.type is ConditionType.VERIFIED), None)
        serves = any(pod.current and pod.ready for pod in seen.observed.pods)
        if kept is not None and kept.reason in _OF_VERIFICATION and serves:
            return Said(ConditionType.VERIFIED, kept.status, Reason(kept.reason), kept.message)
        return Said(ConditionType.VERIFIED, "Unknown", Reason.NOT_VERIFIED, "No replica has compared scores.")
    scores = _count(found.checked, "score")
    numbers = f"{scores} compared, the largest deviation is {found.max_deviation:.2g}."
    if found.passed:
        return Said(ConditionType.VERIFIED, "True", Reason.VERIFIED, numbers)
    return Said(ConditionType.VERIFIED, "False", Reason.VERIFICATION_FAILED, numbers)


def _best_told(observed: Observed) -> Pod | None:
    """Return the replica of the wanted version that is furthest among those that were asked."""
    told = [pod for pod in observed.current if pod.report is not None]
    return max(told, key=_how_far, default=None)


def _how_far(pod: Pod) -> tuple[bool, bool]:
    return pod.ready, pod.report is not None and pod.report.verification is not None


def _verification(pod: Pod | None) -> VerificationResult | None:
    if pod is None or pod.report is None or pod.report.verification is None:
        return None
    found = pod.report.verification
    return VerificationResult(checked=found.checked, max_deviation=found.max_deviation, passed=found.passed)


def _gpu(verdict: Verdict) -> str | None:
    if not isinstance(verdict, Model):
        return None
    return _fact(", ".join(_devices(verdict))) or None


def _devices(model: Model) -> Iterator[str]:
    for name, amount in sorted(model.resources.limits.items()):
        if "/" in name and not name.startswith(("kubernetes.io/", "hugepages")):
            yield f"{amount} {name}"
    for claim in model.resources.claims:
        yield f"claim {claim.name}"


def _keeps_host(seen: Seen) -> bool:
    return seen.host_holder in {None, seen.key}


def _url(verdict: Verdict, settings: Settings, *, has_host: bool) -> str | None:
    if not isinstance(verdict, Model):
        return None
    ingress = verdict.manifest.spec.ingress
    if ingress is None or not has_host:
        return settings.gateway.url
    scheme = "http" if settings.ingress.tls_secret is None else "https"
    return f"{scheme}://{ingress.host}"


def _fact(text: str | None) -> str | None:
    return None if text is None else shortened(text, _LONGEST_FACT)


def _percent(share: float | None) -> int | None:
    """Return whole percents, so that each is written at most once."""
    return None if share is None else int(min(max(share, 0.0), 1.0) * 100 + 1e-9)


def _count(number: int, what: str = "replica") -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
