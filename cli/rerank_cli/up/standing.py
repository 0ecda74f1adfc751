"""How each model stands, in the words that users read, and what the gateway is told: pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from rerank_api.status import MODEL_STATE_OF, SERVING, SLOWEST_FIRST, ModelState, ServerState
from rerank_cli.up.world import Phase, Replica, Version, World, slots
from rerank_gateway.models import Endpoint, Facts, ServedModel

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Standing:
    """How one model stands over all of its replicas."""

    model: str
    names: tuple[str, ...]
    state: ModelState
    message: str
    progress: float | None = None
    """Share of the current state's work that is done, 0 to 1; None where it cannot be known."""
    ready: int = 0
    replicas: int = 0
    ports: tuple[int, ...] = ()
    """Of the replicas that take traffic."""
    coming: tuple[str, ...] = ()
    """Public names that a replacement will answer to, and that the serving version does not."""
    weight: int | None = None
    """Its part of the requests by names that it shares."""
    facts: Facts = field(default_factory=Facts)

    @property
    def settled(self) -> bool:
        """Whether it will not change by itself soon: nothing is on its way."""
        return self.state in {ModelState.READY, ModelState.IDLE, ModelState.FAILED}


def standings(world: World) -> tuple[Standing, ...]:
    """Say how each wanted model stands, in the order of the manifests."""
    return tuple(_standing(world, version) for version in world.wanted)


def as_routed(standing: Standing, listed: Mapping[tuple[str, str], ModelState]) -> Standing:
    """Return the standing as it is to be shown: ready means that the gateway sends requests there.

    `listed` holds the state of each model under each public name, as the gateway tells it: by name and model.
    """
    if standing.state not in SERVING:
        return standing
    if all(listed.get((name, standing.model)) in SERVING for name in standing.names):
        return standing
    return replace(
        standing, state=ModelState.LOADING, message="Its server is ready; the gateway takes it up."
    )


def served(
    models: tuple[Standing, ...], granted: Mapping[str, Collection[str]], created: dict[str, int]
) -> tuple[ServedModel, ...]:
    """Return one entry for each public name, and one for each model where several share it, sorted by name.

    `granted` says whose a name is by the manifests. While a replacement is on its way, two versions may
    know one name: the owners that serve it come first, then whoever served it before, then the owner to be.
    """
    claims: dict[str, tuple[int, list[ServedModel]]] = {}
    for standing in models:
        for name in standing.names:
            entry = _entry(standing, name, created[standing.model])
            if standing.model in granted.get(name, ()):
                _claim(claims, 0, replace(entry, weight=standing.weight))
            else:
                _claim(claims, 1, entry)
        for name in standing.coming:
            entry = _entry(standing, name, created[standing.model])
            loading = replace(entry, endpoints=(), state=ModelState.LOADING)
            _claim(claims, 2, loading)
    return tuple(entry for name in sorted(claims) for entry in claims[name][1])


def _claim(claims: dict[str, tuple[int, list[ServedModel]]], rank: int, entry: ServedModel) -> None:
    best, entries = claims.get(entry.name, (rank, []))
    if rank < best or not entries:
        claims[entry.name] = (rank, [entry])
    elif rank == best == 0:
        entries.append(entry)


def _entry(standing: Standing, name: str, created: int) -> ServedModel:
    return ServedModel(
        name=name,
        model=standing.model,
        state=standing.state,
        message=standing.message,
        endpoints=tuple(Endpoint(LOOPBACK, port) for port in standing.ports),
        created=created,
        progress=standing.progress,
        facts=standing.facts,
    )


def _standing(world: World, wanted: Version) -> Standing:
    serving = world.serving.get(wanted.model, wanted)
    standing = _of_version(world, serving)
    if serving.fingerprint != wanted.fingerprint:
        new = _of_version(world, wanted)
        how = f"{new.state.value.lower()}: {new.message}"
        standing = replace(
            standing,
            message=f"Serving as before the change; its replacement is {how}",
            progress=new.progress,
            coming=tuple(name for name in wanted.names if name not in serving.names),
        )
    standing = replace(standing, weight=wanted.weight)
    if wanted.remark:
        standing = replace(standing, message=f"{standing.message} {wanted.remark}".strip())
    return standing


def _of_version(world: World, version: Version) -> Standing:
    """Say how one version stands by itself."""
    standing = Standing(version.model, version.names, ModelState.PENDING, "", replicas=version.replicas)
    if not version.names:
        return replace(standing, state=ModelState.FAILED)
    if version.replicas == 0:
        message = "spec.replicas is 0: set it to 1 or more to serve this model."
        return replace(standing, state=ModelState.IDLE, message=message)
    ports = tuple(replica.port for replica in world.ready(version))
    state, message, progress = _slowest(world, version)
    standing = replace(standing, ready=len(ports), ports=ports, facts=_facts(world, version))
    if len(ports) == version.replicas:
        return replace(standing, state=ModelState.READY, message=message)
    if ports:
        how_many = f"{len(ports)} of {version.replicas} replicas ready; the next is"
        return replace(
            standing, state=ModelState.DEGRADED, message=f"{how_many} {state.value.lower()}: {message}"
        )
    return replace(standing, state=state, message=message, progress=progress)


def _facts(world: World, version: Version) -> Facts:
    """Return what the version's servers tell of the model: the first that has loaded it."""
    told = (replica.status for replica in world.of(version))
    loaded = next((status for status in told if status is not None and status.family is not None), None)
    if loaded is None:
        return Facts()
    return Facts(loaded.family, loaded.max_length, loaded.score_scale)


def _slowest(world: World, version: Version) -> tuple[ModelState, str, float | None]:
    """Return state, message and progress of the replica that holds the version up most."""
    by_slot = {replica.slot: replica for replica in world.of(version)}
    told = []
    for slot in slots(version):
        crash = world.crashes.get(slot)
        if slot in by_slot:
            told.append(_told(by_slot[slot]))
        elif crash is not None:
            told.append((ModelState.FAILED, f"Its server {crash.message}; it is started again.", None))
        else:
            told.append((ModelState.PENDING, "Its server is starting.", None))
    return min(told, key=lambda one: SLOWEST_FIRST.index(one[0]))


def _told(replica: Replica) -> tuple[ModelState, str, float | None]:
    status = replica.status
    if status is None:
        return ModelState.PENDING, "Its server is starting.", None
    if status.state is ServerState.READY and replica.phase is not Phase.READY:
        return ModelState.VERIFYING, status.message, None
    return MODEL_STATE_OF[status.state], status.message, status.progress
