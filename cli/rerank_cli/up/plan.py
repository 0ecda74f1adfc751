"""What to do next: pure. The supervisor does it, and asks again whenever something has changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rerank_cli.up.world import Phase, Replica, Slot, Version, World, slots

LEAVE_S = 0.5
"""From leaving the state file to SIGTERM: the gateway has long stopped choosing the server by then."""
DRAIN_S = 305.0
"""From SIGTERM to SIGKILL: a little more than the gateway waits for any answer."""
SILENCE_S = 30.0
"""A server that answered before and has not for this long hangs."""


@dataclass(frozen=True)
class Start:
    """Start a server in an empty place."""

    slot: Slot
    version: Version


@dataclass(frozen=True)
class Leave:
    """Take a replica out of the state file for good."""

    pid: int


@dataclass(frozen=True)
class Stop:
    """Ask a replica to finish what it has and end (SIGTERM)."""

    pid: int


@dataclass(frozen=True)
class Kill:
    """End a replica now (SIGKILL), and say why."""

    pid: int
    why: str


Action = Start | Leave | Stop | Kill


@dataclass(frozen=True)
class Plan:
    """What takes the traffic from now on, what to do, and when to look again without any news."""

    serving: Mapping[str, Version]
    actions: tuple[Action, ...]
    wake_at: float | None


def plan(world: World, now: float) -> Plan:
    """Decide on the next steps from what is wanted to what runs."""
    serving = promote(world)
    versions = versions_to_run(world.wanted, serving)
    starts, retries = _starts(world, versions, now)
    actions: list[Action] = [*starts, *_ends(world, versions, now)]
    due = [*retries, *(at for replica in world.replicas if (at := _due(replica)) is not None and at > now)]
    return Plan(serving, tuple(actions), min(due, default=None))


def promote(world: World) -> dict[str, Version]:
    """Say which version of each model takes the traffic.

    A replacement takes over once all of its replicas are ready, or once one is and nothing of the version
    before it is, and once every name that it gives up to another model is answered there. Until then the
    version before it keeps serving, whatever happens to the new one.
    """
    takers = {version.model: version for version in world.wanted if _can_take_over(world, version)}
    while blocked := [model for model, version in takers.items() if not _names_stay(world, version, takers)]:
        for model in blocked:
            del takers[model]
    return {
        version.model: takers.get(version.model) or world.serving.get(version.model, version)
        for version in world.wanted
    }


def _can_take_over(world: World, version: Version) -> bool:
    before = world.serving.get(version.model)
    if before is None or before.fingerprint == version.fingerprint:
        return True
    ready = len(world.ready(version))
    return ready >= version.replicas or (ready > 0 and not world.ready(before))


def _names_stay(world: World, version: Version, takers: Mapping[str, Version]) -> bool:
    """Say whether each name that a model gives up to another is ready there, if it is answered now."""
    before = world.serving.get(version.model)
    if before is None or not world.ready(before):
        return True
    return all(_is_answered(world, name, version, takers) for name in set(before.names) - set(version.names))


def _is_answered(world: World, name: str, giver: Version, takers: Mapping[str, Version]) -> bool:
    """Say whether one of those that a name goes to answers it, if any of them ever shall."""
    heirs = [heir for heir in world.wanted if heir.model != giver.model and name in heir.names]
    coming = [heir for heir in heirs if heir.replicas and (heir.weight != 0 or heir.model == name)]
    return not coming or any(heir.model in takers and world.ready(heir) for heir in coming)


def versions_to_run(wanted: tuple[Version, ...], serving: Mapping[str, Version]) -> tuple[Version, ...]:
    """Return every version that shall have servers: the wanted, and what still serves in their stead."""
    held = [
        serving[version.model]
        for version in wanted
        if serving[version.model].fingerprint != version.fingerprint
    ]
    return (*wanted, *held)


def _starts(world: World, versions: tuple[Version, ...], now: float) -> tuple[list[Start], list[float]]:
    """Return the places to fill now, and when those that wait out a crash are due."""
    filled = {replica.slot for replica in world.replicas if replica.phase in {Phase.STARTING, Phase.READY}}
    starts: list[Start] = []
    retries: list[float] = []
    for version in versions:
        for slot in slots(version):
            crash = world.crashes.get(slot)
            if slot in filled:
                continue
            if crash is not None and crash.retry_at > now:
                retries.append(crash.retry_at)
            else:
                starts.append(Start(slot, version))
    return starts, retries


def _ends(world: World, versions: tuple[Version, ...], now: float) -> Iterator[Action]:
    stay = {slot for version in versions for slot in slots(version)}
    for replica in world.replicas:
        due = _due(replica)
        overdue = due is not None and due <= now
        silent = replica.status is not None and replica.silence >= SILENCE_S
        match replica.phase:
            case Phase.STARTING | Phase.READY if silent:
                yield Kill(replica.pid, f"has not answered for {SILENCE_S:.0f} s")
            case Phase.STARTING if replica.slot not in stay:
                yield Stop(replica.pid)
            case Phase.READY if replica.slot not in stay:
                yield Leave(replica.pid)
            case Phase.LEAVING if overdue:
                yield Stop(replica.pid)
            case Phase.DRAINING if overdue:
                yield Kill(replica.pid, f"had requests left after {DRAIN_S:.0f} s of draining")


def _due(replica: Replica) -> float | None:
    """Say when something is to be done about a replica even without news of it."""
    match replica.phase:
        case Phase.LEAVING:
            return replica.since + LEAVE_S
        case Phase.DRAINING:
            return replica.since + DRAIN_S
        case _:
            return None
