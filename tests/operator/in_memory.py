"""An API server in memory, as far as `reconcile` needs one; the real one is in the tests of the cluster.

What is applied is kept as server-side apply keeps it: what was applied before and is not any more is taken
away, what others wrote stays, a defaulted field is added, an object without change keeps its version.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rerank_api.status import ServerStatus
from rerank_operator.errors import ClusterError, ConflictError
from rerank_operator.keys import KINDS, MODEL, Key, Kind
from rerank_operator.observed import Pod
from tests.operator.given import Manifest

Place = tuple[str, Key]
"""An object's kind, and where it is."""


class InMemoryCluster:
    """Objects, what was asked of them, and refusals to order."""

    def __init__(self) -> None:
        self.objects: dict[Place, Manifest] = {}
        self.calls: list[str] = []
        """As `apply Deployment bge`; reads are in `reads`."""
        self.reads: list[str] = []
        """As `get Service bge` and `warnings bge-1`."""
        self.refusals: dict[str, ClusterError] = {}
        """By the beginning of a call or a read."""
        self.events: dict[str, Manifest] = {}
        self.deleted: list[Manifest] = []
        """What was deleted here and no watch has told yet."""
        self.complaints: dict[str, list[Manifest]] = {}
        """Warnings by the pod's uid."""
        self._applied: dict[Place, Manifest] = {}
        self._version = 100

    def put(self, manifest: Manifest) -> Manifest:
        """Have somebody else write an object."""
        self._version += 1
        manifest = copy.deepcopy(manifest)
        manifest["metadata"]["resourceVersion"] = str(self._version)
        manifest["metadata"].setdefault("uid", f"uid {self._version}")
        self.objects[_place(manifest)] = manifest
        return copy.deepcopy(manifest)

    def take(self, kind: str, place: Key) -> Manifest:
        """Have somebody else delete an object; return it as the watch tells it."""
        self._version += 1
        gone = self.objects.pop((kind, place))
        self._applied.pop((kind, place), None)
        gone["metadata"]["resourceVersion"] = str(self._version)
        return gone

    async def get(self, kind: Kind, place: Key) -> Manifest | None:
        self._read(f"get {kind.kind} {place.name}")
        return copy.deepcopy(self.objects.get((kind.kind, place)))

    async def apply(self, manifest: Mapping[str, Any]) -> Manifest:
        wanted = copy.deepcopy(dict(manifest))
        place = _place(wanted)
        self._called(f"apply {place[0]} {place[1].name}")
        live = self.objects.get(place)
        made = copy.deepcopy(live) if live else {"metadata": {"uid": f"uid of {place[0]} {place[1].name}"}}
        _take_away(made, self._applied.get(place, {}), wanted)
        _join(made, wanted)
        if place[0] == "Deployment":
            made["spec"]["template"]["spec"].setdefault("restartPolicy", "Always")
        self._applied[place] = wanted
        return self.put(made) if made != live else copy.deepcopy(made)

    async def apply_status(self, seen: Manifest, status: Mapping[str, Any]) -> Manifest:
        place = _place(seen)
        self._called(f"status {place[1].name}")
        live = self.objects.get(place)
        if live is None:
            raise ClusterError("write the status", 404, "not found")
        if live["metadata"]["uid"] != seen["metadata"]["uid"]:
            raise ConflictError("write the status", 409, "the UID differs")
        return self.put({**live, "status": copy.deepcopy(dict(status))})

    async def delete(self, kind: Kind, manifest: Mapping[str, Any]) -> None:
        place = _place(manifest)
        self._called(f"delete {kind.kind} {place[1].name}")
        live = self.objects.get(place)
        if live is not None and live["metadata"]["uid"] == manifest["metadata"]["uid"]:
            self.deleted.append(self.take(*place))

    async def tell(self, event: Mapping[str, Any]) -> None:
        self._called(f"event {event['reason']}")
        self.events.setdefault(event["metadata"]["name"], dict(event))

    async def warnings(self, pod: Key, uid: str) -> Sequence[Manifest]:
        self._read(f"warnings {pod.name}")
        return self.complaints.get(uid, [])

    def _called(self, call: str) -> None:
        self.calls.append(call)
        self._refuse(call)

    def _read(self, read: str) -> None:
        self.reads.append(read)
        self._refuse(read)

    def _refuse(self, call: str) -> None:
        for begins, refusal in self.refusals.items():
            if call.startswith(begins):
                raise refusal


class ToldReports:
    """What servers have said of themselves, and whose are followed."""

    def __init__(self) -> None:
        self.said: dict[str, ServerStatus] = {}
        """By `Pod.life`."""
        self.followed: dict[Key, list[str]] = {}
        """Names of each model's pods."""

    def known(self, pods: Iterable[Pod]) -> Mapping[str, ServerStatus]:
        return {pod.life: self.said[pod.life] for pod in pods if pod.life in self.said}

    def follow(self, key: Key, pods: Iterable[Pod]) -> None:
        self.followed[key] = [pod.name for pod in pods]


def refusal(status: int, reason: str = "it says no") -> ClusterError:
    kind = ConflictError if status == 409 else ClusterError
    return kind("apply an object", status, reason)


def _place(manifest: Mapping[str, Any]) -> Place:
    metadata = manifest["metadata"]
    assert manifest["kind"] in KINDS
    assert manifest["apiVersion"] == KINDS[manifest["kind"]].api_version or manifest["kind"] != MODEL.kind
    return manifest["kind"], Key(metadata["namespace"], metadata["name"])


def _take_away(made: Any, before: Any, wanted: Any) -> None:
    """Take away what was applied before and is not any more."""
    if isinstance(made, dict) and isinstance(before, dict) and isinstance(wanted, dict):
        for name, value in before.items():
            if name not in wanted:
                made.pop(name, None)
            else:
                _take_away(made.get(name), value, wanted[name])


def _join(made: Manifest, wanted: Mapping[str, Any]) -> None:
    """Write what is wanted over what is there; lists are replaced as a whole."""
    for name, value in wanted.items():
        if isinstance(value, dict) and isinstance(made.get(name), dict):
            _join(made[name], value)
        else:
            made[name] = copy.deepcopy(value)
