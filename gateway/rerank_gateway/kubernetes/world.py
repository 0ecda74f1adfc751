"""What Kubernetes tells as a view: no I/O, and no more work than what changed."""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Generic, TypeVar

from rerank_api.status import SERVING, ModelState
from rerank_gateway import models
from rerank_gateway.kubernetes.objects import Consumer, Key, KeySecret, Model, Slice, Told
from rerank_gateway.models import Endpoint, ServedModel, View

T = TypeVar("T")


class Table(Generic[T]):
    """The objects of one kind by key; says of each that comes, changes or goes what it was and what it is."""

    def __init__(self, changed: Callable[[Key, T | None, T | None], None]) -> None:
        self._objects: dict[Key, T] = {}
        self._changed = changed

    def __getitem__(self, key: Key) -> T:
        return self._objects[key]

    def get(self, key: Key) -> T | None:
        """Return the object, if there is one."""
        return self._objects.get(key)

    def items(self) -> ItemsView[Key, T]:
        """Return all objects with their keys."""
        return self._objects.items()

    def put(self, key: Key, new: T | None) -> None:
        """Take over what an object is now; None where it is gone."""
        old = self._objects.get(key)
        if old == new:
            return
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        self._changed(key, old, new)

    def replace(self, namespace: str | None, objects: Mapping[Key, T]) -> None:
        """Take over all objects of a namespace, or of all: what is not among them is gone."""
        for key in [key for key in self._objects if namespace in (None, key[0]) and key not in objects]:
            self.put(key, None)
        for key, new in objects.items():
            self.put(key, new)


class World:
    """What is known of a cluster. Its view depends on the objects alone, whatever order they came in."""

    def __init__(self) -> None:
        self.models: Table[Model] = Table(self._model_changed)
        self.slices: Table[Slice] = Table(self._slice_changed)
        self.consumers: Table[Consumer] = Table(self._keys_changed)
        self.secrets: Table[KeySecret] = Table(self._keys_changed)
        self._slices_of: dict[Key, set[Key]] = {}
        self._served: dict[Key, tuple[ServedModel, ...]] = {}
        self._stale: set[Key] = set()
        self._pressing = False
        self._callers: tuple[models.Consumer, ...] = ()
        self._callers_stale = False

    @property
    def changed(self) -> bool:
        """Whether the next view may differ from the last."""
        return bool(self._stale) or self._callers_stale

    @property
    def pressing(self) -> bool:
        """Whether something changed by which requests go elsewhere, or a state: more than its words."""
        return self._pressing or self._callers_stale

    def view(self) -> View:
        """Return every public name of every model, and every consumer. Only what changed is made anew."""
        for key in self._stale:
            model = self.models.get(key)
            if model is None:
                self._served.pop(key, None)
            else:
                self._served[key] = served(model, self._endpoints_of(key))
        self._stale.clear()
        self._pressing = False
        if self._callers_stale:
            self._callers = tuple(
                caller(key, consumer, self.secrets.get(consumer.secret))
                for key, consumer in self.consumers.items()
            )
            self._callers_stale = False
        return View(tuple(chain.from_iterable(self._served.values())), self._callers)

    def unusable(self) -> tuple[str, ...]:
        """Say which consumers' keys cannot be used, and why, sorted."""
        return tuple(
            sentence
            for (namespace, name), consumer in sorted(self.consumers.items())
            for sentence in faults(f"{namespace}/{name}", consumer, self.secrets.get(consumer.secret))
        )

    def _endpoints_of(self, model: Key) -> Iterable[Endpoint]:
        return chain.from_iterable(self.slices[key].endpoints for key in self._slices_of.get(model, ()))

    def _model_changed(self, key: Key, old: Model | None, new: Model | None) -> None:
        self._stale.add(key)
        self._pressing = self._pressing or is_pressing(old, new)

    def _keys_changed(self, _key: Key, _old: object, _new: object) -> None:
        self._callers_stale = True

    def _slice_changed(self, key: Key, old: Slice | None, new: Slice | None) -> None:
        self._pressing = True
        if old is not None:
            self._slices_of[old.model].discard(key)
            if not self._slices_of[old.model]:
                del self._slices_of[old.model]
            self._stale.add(old.model)
        if new is not None:
            self._slices_of.setdefault(new.model, set()).add(key)
            self._stale.add(new.model)


def caller(key: Key, consumer: Consumer, secret: KeySecret | None) -> models.Consumer:
    """Return a consumer with the keys of its Secret; without one nobody can call in its name."""
    digests = () if secret is None else secret.digests
    return models.Consumer(
        "/".join(key),
        digests,
        consumer.models,
        consumer.requests_per_minute,
        consumer.tokens_per_minute,
    )


def faults(name: str, consumer: Consumer, secret: KeySecret | None) -> Iterator[str]:
    """Say what keeps keys of a consumer from counting."""
    where = "/".join(consumer.secret)
    if secret is None:
        yield f"the consumer {name} has no key: there is no Secret {where} of type Opaque"
    elif not secret.digests and not secret.faults:
        yield f"the consumer {name} has no key: the Secret {where} is empty"
    else:
        yield from (f"a key of the consumer {name} is left out: {where}: {fault}" for fault in secret.faults)


def is_pressing(old: Model | None, new: Model | None) -> bool:
    """Say whether a change is more than one of words, progress and facts, of which there are many."""
    if old is None or new is None or old.told.state is not new.told.state:
        return True
    return replace(old, told=new.told) != new


def served(model: Model, endpoints: Iterable[Endpoint]) -> tuple[ServedModel, ...]:
    """Return a model's public names, all with the same replicas: those of all of its EndpointSlices."""
    replicas = tuple(sorted(set(endpoints)))
    state, message, progress = standing(model.told, len(replicas))
    return tuple(
        ServedModel(
            name=name,
            model=f"{model.namespace}/{model.name}",
            state=state,
            message=message,
            endpoints=replicas,
            created=model.created,
            hosts=() if model.host is None else (model.host,),
            progress=progress,
            from_zero=model.from_zero,
            weight=model.weight,
            facts=model.told.facts,
        )
        for name in model.names
    )


def standing(told: Told, replicas: int) -> tuple[ModelState, str, float | None]:
    """Return a model's state, message and progress: as the operator says, unless the endpoints show that this
    is out of date.

    The operator may be away for hours; whether replicas take traffic is known without it.
    """
    if replicas and told.state not in SERVING:
        take = "replica takes" if replicas == 1 else "replicas take"
        return ModelState.READY, f"{replicas} {take} traffic.", None
    if not replicas and (told.state is None or told.state in SERVING):
        return ModelState.PENDING, "No replica takes traffic.", None
    state = told.state or ModelState.PENDING
    return state, told.message or f"{state}.", told.progress
