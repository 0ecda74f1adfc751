"""What the runner knows at one moment: what is wanted, what runs, what crashed. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rerank_api.status import ServerStatus
from rerank_cli.up.backoff import Crash


@dataclass(frozen=True)
class Version:
    """One version of a model's manifest: what its servers are told, and how many there are."""

    model: str
    """The RerankModel's metadata.name."""
    fingerprint: str
    """Differs exactly where a server would have to be replaced."""
    names: tuple[str, ...]
    """The public names that it answers to: those that no model before it claims, or that it shares."""
    replicas: int
    manifest: str
    """The RerankModel as JSON, for the server."""
    remark: str = ""
    """A sentence about names that went to another model; empty where none did."""
    weight: int | None = None
    """Its part of the requests by names that it shares; None where it shares none. No server knows of it."""


@dataclass(frozen=True)
class Slot:
    """The place of one server: the `index`th replica of a version. At most one process fills it."""

    model: str
    fingerprint: str
    index: int


class Phase(StrEnum):
    """The life of one server process as the runner sees it."""

    STARTING = "starting"
    """Not ready: it starts, fetches, loads, or has failed and tries again by itself."""
    READY = "ready"
    LEAVING = "leaving"
    """It gets no new requests any more, and is not told yet."""
    DRAINING = "draining"
    """It was asked to end (SIGTERM) and finishes what it has."""


@dataclass(frozen=True)
class Replica:
    """One server process. `since` is when its phase began (monotonic seconds)."""

    pid: int
    slot: Slot
    port: int
    phase: Phase
    since: float
    status: ServerStatus | None = None
    """What its `/status` said last; None before the first answer."""
    silence: float = 0.0
    """Seconds that it was asked in vain since it last answered. Not a clock: the runner itself may have been
    stopped meanwhile, which says nothing about the server."""


@dataclass(frozen=True)
class World:
    """Everything that the plan is made from."""

    wanted: tuple[Version, ...] = ()
    """From the manifests, in the order of the files."""
    serving: Mapping[str, Version] = field(default_factory=dict)
    """By model: the version whose replicas take the traffic. It may be older than the wanted one."""
    replicas: tuple[Replica, ...] = ()
    crashes: Mapping[Slot, Crash] = field(default_factory=dict)

    def of(self, version: Version) -> tuple[Replica, ...]:
        """Return the replicas that are to stay of one version, by index."""
        staying = [
            replica
            for replica in self.replicas
            if replica.slot.model == version.model
            and replica.slot.fingerprint == version.fingerprint
            and replica.slot.index < version.replicas
            and replica.phase in {Phase.STARTING, Phase.READY}
        ]
        return tuple(sorted(staying, key=lambda replica: replica.slot.index))

    def ready(self, version: Version) -> tuple[Replica, ...]:
        """Return the replicas of one version that take traffic, by index."""
        return tuple(replica for replica in self.of(version) if replica.phase is Phase.READY)


def slots(version: Version) -> tuple[Slot, ...]:
    """Return a version's places."""
    return tuple(Slot(version.model, version.fingerprint, index) for index in range(version.replicas))
