"""What Kubernetes tells, reduced to what the gateway needs: a few fields, each checked; of Secrets digests.

The manifest's own reader is not used: a field that it does not know yet would take a model off the air.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rerank_api.keys import KeyFaultError, read_encoded
from rerank_api.names import MODEL_LABEL, is_consumer_name, is_model_name
from rerank_api.rerank_consumer import MAX_PER_MINUTE
from rerank_api.rerank_model import MAX_WEIGHT
from rerank_api.status import ModelState
from rerank_gateway.models import Endpoint, Facts

SERVICE_LABEL = "kubernetes.io/service-name"
"""On EndpointSlices, by Kubernetes: the Service that they belong to."""

PORT_NAME = "http"
PEERS_PORT_NAME = "counts"
"""Where replicas of the gateway ask each other."""

_OPAQUE = "Opaque"

Json: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[str, str]
"""Namespace and name."""


class UnreadableError(Exception):
    """The object cannot be used; the text says which field is wrong, and how."""


@dataclass(frozen=True)
class Told:
    """What the operator says of a model; None, and no facts, where it has said nothing that is understood."""

    state: ModelState | None = None
    message: str | None = None
    progress: float | None = None
    """Share of the state's work that is done, 0 to 1."""
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Model:
    """One RerankModel."""

    namespace: str
    name: str
    created: int
    """Unix seconds."""
    names: tuple[str, ...]
    """Its public names."""
    host: str | None = None
    weight: int | None = None
    """Its part of the names that it offers to share; None where it offers none."""
    from_zero: bool = False
    """Whether it may sleep without replicas until a request comes."""
    told: Told = Told()


@dataclass(frozen=True)
class Slice:
    """One EndpointSlice of a model: some of its replicas that take traffic."""

    model: Key
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Consumer:
    """One RerankConsumer."""

    secret: Key
    """The Secret that holds its keys."""
    models: tuple[str, ...]
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True)
class KeySecret:
    """One Secret that may hold keys: their digests, and why a field holds none."""

    digests: tuple[str, ...]
    faults: tuple[str, ...] = ()


def key_of(raw: Json) -> Key:
    """Return an object's key. Raises `UnreadableError`."""
    metadata = _mapping(raw, "metadata")
    return _text(metadata, "namespace"), _text(metadata, "name")


def model(raw: Json) -> Model | None:
    """Read a RerankModel; one that is being deleted is gone already. Raises `UnreadableError`."""
    metadata = _mapping(raw, "metadata")
    if metadata.get("deletionTimestamp") is not None:
        return None
    namespace, name = key_of(raw)
    spec = _mapping(raw, "spec")
    told = _told(raw.get("status"))
    return Model(
        namespace=namespace,
        name=name,
        created=_seconds(_text(metadata, "creationTimestamp")),
        names=_names(spec) or (name,),
        host=_host(spec),
        weight=_weight(spec),
        # For one that failed no replica comes, whoever waits.
        from_zero=_mapping(spec, "autoscaling").get("minReplicas") == 0
        and told.state is not ModelState.FAILED,
        told=told,
    )


def endpoint_slice(raw: Json) -> Slice | None:
    """Read an EndpointSlice; None where no model can have replicas in it. Raises `UnreadableError`.

    A model's replicas are those of the Service of its own name. Another that is made for it has the gateway
    for its endpoint, so that an Ingress beside the model can name one: requests would go in a circle.

    A replica takes traffic if it is ready, or says nothing of that, and is not terminating. Only the first
    address of an endpoint has a meaning (`discovery.k8s.io/v1`, Endpoint).
    """
    namespace, _ = key_of(raw)
    labels = _mapping(_mapping(raw, "metadata"), "labels")
    label, port = labels.get(MODEL_LABEL), _port(raw, PORT_NAME)
    if not isinstance(label, str) or labels.get(SERVICE_LABEL) != label:
        return None
    if port is None or raw.get("addressType") not in ("IPv4", "IPv6"):
        return None
    endpoints = tuple(
        _endpoint(each, port)
        for each in _list(raw, "endpoints")
        if _takes_traffic(_mapping(each, "conditions"))
    )
    return Slice((namespace, label), endpoints)


def peer_slice(raw: Json) -> tuple[Endpoint, ...] | None:
    """Read an EndpointSlice of the gateway's own replicas; None where none can be asked.

    All count: one that is not ready yet, or not any more, may have requests. Raises `UnreadableError`.
    """
    port = _port(raw, PEERS_PORT_NAME)
    if port is None or raw.get("addressType") not in ("IPv4", "IPv6"):
        return None
    return tuple(_endpoint(each, port) for each in _list(raw, "endpoints"))


def consumer(raw: Json) -> Consumer | None:
    """Read a RerankConsumer; one that is being deleted is gone already. Raises `UnreadableError`.

    A limit that cannot be read leaves the consumer out: without one it might call as fast as it likes.
    """
    if _mapping(raw, "metadata").get("deletionTimestamp") is not None:
        return None
    namespace, name = key_of(raw)
    if not is_consumer_name(name):
        raise UnreadableError("metadata.name cannot name a consumer")
    spec = _mapping(raw, "spec")
    secret, models = _mapping(spec, "keySecret").get("name"), _list(spec, "models")
    if not isinstance(secret, str) or not secret:
        raise UnreadableError("spec.keySecret.name is no text")
    if not all(isinstance(model, str) for model in models):
        raise UnreadableError("spec.models holds what is no text")
    limits = _mapping(spec, "limits")
    return Consumer(
        (namespace, secret),
        tuple(models),
        _per_minute(limits, "requestsPerMinute"),
        _per_minute(limits, "tokensPerMinute"),
    )


def key_secret(raw: Json) -> KeySecret | None:
    """Read a Secret; None where it is of a type that holds something else. Raises `UnreadableError`.

    What is in it becomes digests here, and is not kept.
    """
    if _mapping(raw, "metadata").get("deletionTimestamp") is not None:
        return None
    if raw.get("type", _OPAQUE) != _OPAQUE:
        return None
    digests, faults = [], []
    for name, value in sorted(_mapping(raw, "data").items()):
        try:
            digests.append(read_encoded(str(value)))
        except KeyFaultError as fault:
            faults.append(f"{name} {fault}")
    return KeySecret(tuple(dict.fromkeys(digests)), tuple(faults))


def _per_minute(limits: Json, name: str) -> int | None:
    value = limits.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MAX_PER_MINUTE:
        raise UnreadableError(
            f"spec.limits.{name} is {value!r:.80}, which is no whole number from 1 to {MAX_PER_MINUTE}"
        )
    return value


def _names(spec: Json) -> tuple[str, ...]:
    names = _list(spec, "names")
    for name in names:
        if not isinstance(name, str) or not is_model_name(name):
            raise UnreadableError(f"spec.names holds {name!r:.80}, which is no model name")
    return tuple(dict.fromkeys(names))


def _host(spec: Json) -> str | None:
    host = _mapping(spec, "ingress").get("host")
    if host is None:
        return None
    if not isinstance(host, str) or not host:
        raise UnreadableError(f"spec.ingress.host is {host!r}, which is no host")
    return host.lower()


def _weight(spec: Json) -> int | None:
    weight = spec.get("weight")
    if weight is None or (type(weight) is int and 0 <= weight <= MAX_WEIGHT):
        return weight
    raise UnreadableError(f"spec.weight is {weight!r:.80}, which is no whole number from 0 to {MAX_WEIGHT}")


def _told(status: object) -> Told:
    """Return what the operator says, if anything. What is unknown here, or makes no sense, stops no model."""
    if not isinstance(status, dict):
        return Told()
    state, percent, length = status.get("state"), status.get("progressPercent"), status.get("maxLength")
    return Told(
        state=ModelState(state) if state in tuple(ModelState) else None,
        message=_words(status, "message"),
        progress=percent / 100 if type(percent) is int and 0 <= percent <= 100 else None,
        facts=Facts(
            family=_words(status, "family"),
            max_length=length if type(length) is int else None,
            score_scale=_words(status, "scoreScale"),
        ),
    )


def _words(status: Json, name: str) -> str | None:
    value = status.get(name)
    return value if isinstance(value, str) and value else None


def _takes_traffic(conditions: Json) -> bool:
    return conditions.get("ready") is not False and conditions.get("terminating") is not True


def _port(raw: Json, name: str) -> int | None:
    for port in _list(raw, "ports"):
        number = port.get("port") if isinstance(port, dict) else None
        if number is not None and port.get("name") == name:
            if type(number) is not int:
                raise UnreadableError(f"the port {name} is {number!r}, which is no number")
            return number
    return None


def _endpoint(raw: object, port: int) -> Endpoint:
    addresses = _list(raw, "addresses")
    try:
        return Endpoint(str(addresses[0]), port)
    except IndexError:
        raise UnreadableError("an endpoint has no address") from None
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _seconds(timestamp: str) -> int:
    try:
        return int(datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise UnreadableError(f"metadata.creationTimestamp is {timestamp!r}, which is no time") from None


def _mapping(raw: object, name: str) -> Json:
    """Return a mapping below a mapping, an empty one where it is absent or null."""
    value = raw.get(name) if isinstance(raw, dict) else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} is {value!r:.80}, which is no mapping")
    return value


def _list(raw: object, name: str) -> list[Any]:
    value = raw.get(name) if isinstance(raw, dict) else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableError(f"{name} is {value!r:.80}, which is no list")
    return value


def _text(raw: Json, name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise UnreadableError(f"metadata.{name} is {value!r:.80}, which is no text")
    return value
