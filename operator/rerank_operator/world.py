"""What the watches have told: every object that a decision needs, by the model that it is about."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from rerank_api.name_sharing import Claim, holders
from rerank_api.names import seniority
from rerank_operator.errors import RestoredError
from rerank_operator.keys import KINDS, MODEL, POD, Key, Kind, Manifest, key_of

REMEMBERED = 10_000
"""Objects that are gone, of which this is remembered until the next list: what is told late is soon told."""


class World:
    """Objects as the API server last told them, in whatever order watches, lists and answers tell it.

    A resource version is a number that grows over all objects of a kind, so of two words about one name the
    one with the larger version stands, also where one of them says that nothing has that name. Kept by one
    event loop; only `put`, `remove` and `replace` change it.
    """

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Manifest]] = defaultdict(dict)
        self._of_model: dict[Key, set[tuple[Kind, Key]]] = defaultdict(set)
        self._claims: dict[str, set[Claim]] = defaultdict(set)
        self._gone: dict[tuple[Kind, Key], int] = {}
        """The version at which an object was told to be gone: nothing older brings it back."""
        self._listed: dict[Kind, int] = defaultdict(int)
        """The version of the last list of a kind: what is not known and not younger is gone."""

    def put(self, manifest: Manifest) -> frozenset[Key]:
        """Note how an object is now; return the models that this may concern."""
        kind, place = KINDS[manifest["kind"]], _place(manifest)
        if self._is_late(kind, place, _version(manifest)):
            return frozenset()
        return self._note(kind, place, manifest)

    def remove(self, manifest: Manifest) -> frozenset[Key]:
        """Note that an object is gone; return the models that this may concern."""
        kind, place, version = KINDS[manifest["kind"]], _place(manifest), _version(manifest)
        known = self._objects[kind].get(place)
        if known is not None and _version(known) > version:
            return frozenset()  # another one has its name by now
        self._gone[kind, place] = max(version, self._gone.pop((kind, place), 0))
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
        return self._forget(kind, place)

    def replace(self, kind: Kind, manifests: Iterable[Manifest], version: int) -> frozenset[Key]:
        """Note a complete list of one kind, read at a resource version: what is not in it is gone, unless it
        is younger than the list. Return the models concerned.

        Lists are read one after another, and each is current when it is read: one that is older than the last
        raises `RestoredError`.
        """
        if version < self._listed[kind]:
            raise RestoredError(
                f"the API server's {kind.plural} are at version {version}, and were at {self._listed[kind]} "
                "before: it was restored from a backup, and what was heard since is worth nothing"
            )
        listed = {_place(manifest): manifest for manifest in manifests}
        concerned: set[Key] = set()
        for place, known in tuple(self._objects[kind].items()):
            if place not in listed and _version(known) <= version:
                concerned |= self._forget(kind, place)
        self._gone = {
            (other, place): gone
            for (other, place), gone in self._gone.items()
            if other != kind or gone > version
        }
        for place, manifest in listed.items():
            before = self._objects[kind].get(place)
            is_known = before is not None and _version(before) >= _version(manifest)
            if not is_known and (kind, place) not in self._gone:
                concerned |= self._note(kind, place, manifest)
        self._listed[kind] = version
        return frozenset(concerned)

    def models(self) -> Iterator[Key]:
        """Yield every model."""
        yield from tuple(self._objects[MODEL])

    def model(self, key: Key) -> Manifest | None:
        """Return a model; None where there is none, or it is on its way out."""
        found = self._objects[MODEL].get(key)
        return None if found is None or found["metadata"].get("deletionTimestamp") else found

    def find(self, kind: Kind, place: Key) -> Manifest | None:
        """Return an object by its own namespace and name."""
        return self._objects[kind].get(place)

    def owned(self, key: Key) -> Iterator[tuple[Kind, Manifest]]:
        """Yield what was built for a model, pods excepted."""
        for kind, place in sorted(self._of_model.get(key, ())):
            if kind is not POD:
                yield kind, self._objects[kind][place]

    def pod_uids(self) -> Iterator[str]:
        """Yield every pod's uid."""
        return map(_uid, tuple(self._objects[POD].values()))

    def pods(self, key: Key) -> tuple[Manifest, ...]:
        """Return a model's pods, by name."""
        places = sorted(place for kind, place in self._of_model.get(key, ()) if kind is POD)
        return tuple(self._objects[POD][place] for place in places)

    def holders(self, names: Iterable[str]) -> Mapping[str, tuple[Claim, ...]]:
        """Say who keeps each public name, or host as `host_claim` writes it, the oldest first."""
        return {name: holders(name, self._claims[name]) for name in names if self._claims.get(name)}

    def _is_late(self, kind: Kind, place: Key, version: int) -> bool:
        """Say whether newer word has been heard of what has a name, or that nothing has it."""
        known = self._objects[kind].get(place)
        if known is not None:
            return _version(known) > version
        return max(self._gone.get((kind, place), 0), self._listed[kind]) >= version

    def _note(self, kind: Kind, place: Key, manifest: Manifest) -> frozenset[Key]:
        concerned = self._forget(kind, place)
        key = key_of(manifest)
        if key is None:
            return concerned
        self._objects[kind][place] = manifest
        if kind is not MODEL:
            self._of_model[key].add((kind, place))
            return concerned | {key}
        claims = _claims(manifest)
        for name, claim in claims.items():
            self._claims[name].add(claim)
        return concerned | {key} | self._claimants(claims)

    def _claimants(self, names: Iterable[str]) -> set[Key]:
        return {claimant(claim) for name in names for claim in self._claims.get(name, ())}

    def _forget(self, kind: Kind, place: Key) -> frozenset[Key]:
        known = self._objects[kind].pop(place, None)
        if known is None:
            return frozenset()
        key = key_of(known)
        if key is None:
            return frozenset()
        if kind is not MODEL:
            self._of_model[key].discard((kind, place))
            if not self._of_model[key]:
                del self._of_model[key]
            return frozenset({key})
        concerned = {key}
        for name, claim in _claims(known).items():
            self._claims[name].discard(claim)
            concerned |= self._claimants((name,))
            if not self._claims[name]:
                del self._claims[name]
        return frozenset(concerned)


def public_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the names that a model claims, read without checking the rest of it."""
    names = manifest.get("spec", {}).get("names") or (manifest["metadata"]["name"],)
    return tuple(names)


def host_claim(manifest: Manifest) -> str | None:
    """Return what stands among the claims for a model's own host; no public name begins like that."""
    host = (manifest.get("spec", {}).get("ingress") or {}).get("host")
    return f"//{host.lower()}" if host else None


def claimed(manifest: Manifest) -> tuple[str, ...]:
    """Return all that a model claims: nothing once it is being deleted, as the gateway has it too."""
    if manifest["metadata"].get("deletionTimestamp"):
        return ()
    host = host_claim(manifest)
    return public_names(manifest) if host is None else (*public_names(manifest), host)


def claim_of(manifest: Manifest) -> Claim:
    """Return a model's claim to any of its public names."""
    metadata, weight = manifest["metadata"], manifest.get("spec", {}).get("weight")
    namespace, name = metadata["namespace"], metadata["name"]
    return Claim(seniority(metadata["creationTimestamp"], namespace, name), namespace, name, weight)


def claimant(claim: Claim) -> Key:
    """Return the model that claims."""
    return Key(claim.namespace, claim.model)


def _claims(manifest: Manifest) -> dict[str, Claim]:
    """Return all claims of a model. Its host it shares with nobody."""
    claim, host = claim_of(manifest), host_claim(manifest)
    return {name: replace(claim, weight=None) if name == host else claim for name in claimed(manifest)}


def _place(manifest: Manifest) -> Key:
    return Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])


def _version(manifest: Manifest) -> int:
    """Return the resource version: a number that grows (Kubernetes API concepts, "Resource versions")."""
    return int(manifest["metadata"]["resourceVersion"])
