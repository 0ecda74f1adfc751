"""One model, from what is known to what shall be: gather, decide, act."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ServerStatus
from rerank_operator import desired, drift, events
from rerank_operator.accept import Model, Verdict, accept
from rerank_operator.desired.host import needs_address
from rerank_operator.errors import ClusterError, EndingError, ForeignError
from rerank_operator.keys import DEPLOYMENT, KINDS, SERVICE, Key, Kind, Manifest, owner_name, owner_uid
from rerank_operator.observed import FINGERPRINT, Observed, Pod, Words, complaint, observe
from rerank_operator.pods import Obstacle, Reason, sentence
from rerank_operator.settings import Settings
from rerank_operator.status import Seen, runnable, status_for
from rerank_operator.world import World, claim_of, claimant, claimed, host_claim, public_names

LOOK_WHILE_INCOMPLETE_S = 5.0
LOOK_WHILE_PREPARED_S = 15.0
LOOK_NOW_AND_THEN_S = 60.0
PATIENCE = timedelta(seconds=10)
"""A pod that is prepared for longer than this is asked about: most are not worth a request."""
_REFUSALS = frozenset({400, 403, 413, 422})
"""Statuses with which the API server says that an object cannot be, as opposed to not now."""

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """What is done to the API server."""

    async def get(self, kind: Kind, place: Key) -> Manifest | None: ...
    async def apply(self, manifest: Manifest) -> Manifest: ...
    async def apply_status(self, seen: Manifest, status: Mapping[str, Any]) -> Manifest: ...
    async def delete(self, kind: Kind, manifest: Manifest) -> None: ...
    async def tell(self, event: Manifest) -> None: ...
    async def warnings(self, pod: Key, uid: str) -> Sequence[Manifest]: ...


class Reports(Protocol):
    """What servers say of themselves."""

    def known(self, pods: Iterable[Pod]) -> Mapping[str, ServerStatus]: ...
    def follow(self, key: Key, pods: Iterable[Pod]) -> None: ...


@dataclass(frozen=True)
class Gateway:
    """Where the gateway is, or why that cannot be known; neither where it is not needed."""

    address: str | None = None
    missing: str | None = None


@dataclass
class Reconciler:
    """Brings models to what their manifests say, one at a time and each at most once at a time."""

    world: World
    cluster: Cluster
    reports: Reports
    settings: Settings
    instance: str
    """Who we are, for events."""
    now: Callable[[], datetime]
    _verdicts: dict[Key, tuple[str, int, Verdict]] = field(default_factory=dict)
    _found: tuple[datetime, Gateway] | None = None

    async def reconcile(self, key: Key) -> float | None:
        """Do what is due for a model; return the seconds after which to look again even without news."""
        raw = self.world.model(key)
        if raw is None:
            self._verdicts.pop(key, None)
            self.reports.follow(key, ())
            return None  # deleted: owner references clear what was built
        verdict = self._verdict(key, raw)
        names = public_names(raw)
        holders = self.world.holders(claimed(raw))
        wanted: tuple[dict[str, Any], ...] = ()
        host_holder = next(map(claimant, holders.get(host_claim(raw) or "", ())), None)
        obstacle = None
        is_whole = True
        if isinstance(verdict, Model):
            verdict = _without_lost_host(verdict, host_holder)
            gateway = await self._gateway(verdict)
            wanted = tuple(desired.manifests(verdict, self.settings, gateway.address))
            if runnable(names, key, holders):
                obstacle = await self._build(verdict, wanted, gateway) or _unwired(gateway)
                is_whole = obstacle is not None or self._is_whole(verdict, wanted)
        observed = await self._observe(raw, wanted)
        before = _status(raw)
        seen = Seen(
            key=key,
            generation=raw["metadata"]["generation"],
            verdict=verdict,
            names=names,
            claim=claim_of(raw),
            holders=holders,
            observed=observed,
            before=before,
            obstacle=obstacle,
            host_holder=host_holder,
        )
        await self._tell(raw, before, status_for(seen, self.settings, self.now()))
        unwatched = obstacle is not None or self._needs_gateway(verdict)
        return min(_due(observed, unwatched=unwatched, is_whole=is_whole), default=None)

    def _needs_gateway(self, verdict: Verdict) -> bool:
        """Say whether something is built from the gateway's Service, which is not watched."""
        return isinstance(verdict, Model) and needs_address(
            verdict, self.settings.gateway, self.settings.ingress
        )

    async def _gateway(self, model: Model) -> Gateway:
        """Return where the gateway is, if the model's host needs it; looked up once a minute at most."""
        if not self._needs_gateway(model):
            return Gateway()
        if self._found is None or self.now() - self._found[0] >= timedelta(seconds=LOOK_NOW_AND_THEN_S):
            self._found = self.now(), await self._look_up_gateway()
        return self._found[1]

    async def _look_up_gateway(self) -> Gateway:
        at = self.settings.gateway
        try:
            service = await self.cluster.get(SERVICE, Key(at.namespace, at.service))
        except ClusterError as error:
            if error.status not in _REFUSALS:
                raise
            return Gateway(missing=f"the operator {error}: let it read that Service")
        address = None if service is None else service["spec"].get("clusterIP")
        if address in {None, "None"}:
            place = f"the gateway's Service {at.service} in {at.namespace}"
            missing = f"{place} is not there or has no cluster IP: install the gateway, or remove the field"
            return Gateway(missing=missing)
        return Gateway(address=address)

    def _verdict(self, key: Key, raw: Manifest) -> Verdict:
        """Read a manifest once in each of its generations."""
        version = raw["metadata"]["uid"], raw["metadata"]["generation"]
        known = self._verdicts.get(key)
        if known is None or known[:2] != version:
            known = (*version, accept(raw, self.settings))
            self._verdicts[key] = known
        return known[2]

    async def _build(self, model: Model, wanted: tuple[Manifest, ...], gateway: Gateway) -> Obstacle | None:
        """Apply what is not as it shall be, and take away what is too much. Return what stands in the way."""
        try:
            for manifest in wanted:
                await self._ensure(model, manifest)
        except ForeignError as error:
            return Obstacle(Reason.OBJECT_NAME_IN_USE, str(error))
        except ClusterError as error:
            if isinstance(error, EndingError) or error.status not in _REFUSALS:
                raise
            return Obstacle(Reason.OBJECT_REFUSED, sentence(f"The operator {error}"))
        if gateway.missing is not None:
            return None  # what leads to it is left as it is
        for kind, manifest in self._superfluous(model, wanted):
            log.info("%s: deleting %s", model.key, kind.kind)
            await self.cluster.delete(kind, manifest)
        return None

    async def _ensure(self, model: Model, manifest: Manifest) -> None:
        kind, place = KINDS[manifest["kind"]], Key(model.key.namespace, manifest["metadata"]["name"])
        live = self.world.find(kind, place) or await self.cluster.get(kind, place)
        if live is not None:
            if owner_uid(live) != model.uid:
                if _is_left_over(live, model):
                    return  # it is being cleared away, and is looked for again
                raise ForeignError(_foreign(kind, place))
            if drift.holds(live, manifest):
                return
        log.info("%s: applying %s", model.key, kind.kind)
        self.world.put(await self.cluster.apply(manifest))

    def _superfluous(self, model: Model, wanted: tuple[Manifest, ...]) -> Iterator[tuple[Kind, Manifest]]:
        kept = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
        for kind, manifest in self.world.owned(model.key):
            ours = owner_uid(manifest) == model.uid
            gone = manifest["metadata"].get("deletionTimestamp")
            if ours and not gone and (kind.kind, manifest["metadata"]["name"]) not in kept:
                yield kind, manifest

    def _is_whole(self, model: Model, wanted: tuple[Manifest, ...]) -> bool:
        """Say whether all that is wanted is there, and nothing of another has its name still."""
        found = (
            self.world.find(KINDS[one["kind"]], Key(model.key.namespace, one["metadata"]["name"]))
            for one in wanted
        )
        return all(live is not None and owner_uid(live) == model.uid for live in found)

    async def _observe(self, raw: Manifest, wanted: tuple[Manifest, ...]) -> Observed:
        """Gather what there is of a model, and ask the servers that have something to tell."""
        pods = self._seen(raw, wanted, Words()).pods
        warnings = await self._warnings(raw["metadata"]["namespace"], pods)
        seen = self._seen(raw, wanted, Words(self.reports.known(pods), warnings))
        self.reports.follow(Key(raw["metadata"]["namespace"], raw["metadata"]["name"]), pods)
        return seen

    async def _warnings(self, namespace: str, pods: tuple[Pod, ...]) -> Mapping[str, str]:
        now = self.now()
        asked = [pod for pod in pods if pod.is_prepared and pod.accepted and now - pod.accepted >= PATIENCE]
        try:
            told = await asyncio.gather(
                *(self.cluster.warnings(Key(namespace, pod.name), pod.uid) for pod in asked)
            )
        except ClusterError as error:
            log.warning("%s", error)
            return {}
        heard = {pod.uid: complaint(events) for pod, events in zip(asked, told, strict=True)}
        return {uid: words for uid, words in heard.items() if words is not None}

    def _seen(self, raw: Manifest, wanted: tuple[Manifest, ...], words: Words) -> Observed:
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        deployment = self.world.find(DEPLOYMENT, key)
        if deployment is not None and owner_uid(deployment) != raw["metadata"]["uid"]:
            return Observed()  # it is not of this model, and so its pods are not
        return observe(deployment, self.world.pods(key), _fingerprint(wanted), words)

    async def _tell(self, raw: Manifest, before: RerankModelStatus, after: RerankModelStatus) -> None:
        if after == before:
            return
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        happened = events.event(
            key,
            raw["metadata"]["uid"],
            before,
            after,
            generation=raw["metadata"]["generation"],
            instance=self.instance,
            now=self.now(),
        )
        if happened is not None:
            await self._record(happened)
        status = after.model_dump(mode="json", by_alias=True, exclude_none=True)
        log.info("%s: %s: %s", key, after.state, after.message)
        self.world.put(await self.cluster.apply_status(raw, status))

    async def _record(self, event: Manifest) -> None:
        """Record an event, before the status that stands for it: one that is told twice has the same name."""
        try:
            await self.cluster.tell(event)
        except EndingError:
            raise
        except ClusterError as error:
            log.warning("%s", error)  # the status says the same, and must not wait for it


def _status(raw: Manifest) -> RerankModelStatus:
    """Read the status that was written before; one of another version of the operator is written anew."""
    try:
        return RerankModelStatus.model_validate(raw.get("status") or {}, by_alias=True, by_name=False)
    except ValueError:
        return RerankModelStatus()


def _fingerprint(wanted: tuple[Manifest, ...]) -> str | None:
    for manifest in wanted:
        if manifest["kind"] == DEPLOYMENT.kind:
            return str(manifest["spec"]["template"]["metadata"]["annotations"][FINGERPRINT])
    return None


def _is_left_over(live: Manifest, model: Model) -> bool:
    """Say whether an object was built for an earlier RerankModel of this name, or is on its way out."""
    return owner_name(live) == model.key.name or live["metadata"].get("deletionTimestamp") is not None


def _foreign(kind: Kind, place: Key) -> str:
    return (
        f"There is a {kind.kind} {place.name} in {place.namespace} that does not belong to this model, and "
        "it is not touched: rename the model, or remove that object."
    )


def _without_lost_host(model: Model, holder: Key | None) -> Model:
    """Leave out a host that an older model has."""
    if holder in {None, model.key}:
        return model
    spec = model.manifest.spec.model_copy(update={"ingress": None})
    return replace(model, manifest=model.manifest.model_copy(update={"spec": spec}))


def _unwired(gateway: Gateway) -> Obstacle | None:
    """Say what stands between a model's host and the gateway."""
    if gateway.missing is None:
        return None
    message = sentence(f"spec.ingress.host leads nowhere: {gateway.missing}")
    return Obstacle(Reason.GATEWAY_NOT_FOUND, message)


def _due(observed: Observed, *, unwatched: bool, is_whole: bool) -> Iterator[float]:
    """Yield after how many seconds there may be something new that nobody tells."""
    if any(pod.is_prepared for pod in observed.pods):
        yield LOOK_WHILE_PREPARED_S
    if unwatched:
        yield LOOK_NOW_AND_THEN_S
    if not is_whole:
        yield LOOK_WHILE_INCOMPLETE_S
