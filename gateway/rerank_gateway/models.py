"""What the gateway knows: each model's public name, how it stands, where it answers; and who may call it."""

import functools
import ipaddress
import re
from dataclasses import dataclass

from rerank_api.rerank_consumer import ALL_MODELS, MAX_PER_MINUTE
from rerank_api.rerank_model import MAX_WEIGHT
from rerank_api.status import ModelState

_DIGEST = re.compile("[0-9a-f]{64}")
_CONSUMER_NAME = re.compile("[a-z0-9./-]+")


@dataclass(frozen=True, order=True)
class Endpoint:
    """One replica's address: an IP address (version 4 or 6) and a TCP port.

    Raises ValueError for anything else. A host name would make Envoy refuse the whole model, because the
    agent hands out addresses and leaves nothing to be looked up.
    """

    address: str
    port: int

    def __post_init__(self) -> None:
        if not _is_ip_address(self.address):
            raise ValueError(f"the endpoint address {self.address!r} is not an IP address")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"the port {self.port} of endpoint {self.address} is not between 1 and 65535")


@functools.lru_cache(maxsize=1 << 14)  # the same few addresses come with every view
def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Facts:
    """What a model is, as its servers told it last; None where none has said it yet."""

    family: str | None = None
    max_length: int | None = None
    """Tokens of a query and a document together, or of one text, as the family has it."""
    score_scale: str | None = None
    """A word of `rerank_api.score_scale.ScoreScale`, or one that a newer server has."""


@dataclass(frozen=True)
class ServedModel:
    """One public name of one RerankModel. A model with three names is three of these.

    Raises ValueError where a value makes no sense.
    """

    name: str
    """The public name: what a request says in `model`."""
    model: str
    """The RerankModel: `namespace/name` in a cluster, its name alone on one machine."""
    state: ModelState
    message: str
    """One sentence for a person: what is going on, or what is wrong and what to do."""
    endpoints: tuple[Endpoint, ...] = ()
    """The replicas that take traffic, in any order; none while the model is not ready or scaled to zero."""
    created: int = 0
    """Unix seconds of the RerankModel's creation; of two that claim one name, the older keeps it."""
    progress: float | None = None
    """Share of the current state's work that is done, 0 to 1; None where it cannot be known."""
    hosts: tuple[str, ...] = ()
    """Hosts whose requests reach this model where they name none, in lower case."""
    from_zero: bool = False
    """Whether a request wakes it: without replicas, its requests wait for the first one."""
    weight: int | None = None
    """The RerankModel's part, 0 to 1000, of the names that it shares; None where it shares none."""
    facts: Facts = Facts()

    def __post_init__(self) -> None:
        if not self.name or not self.model:
            raise ValueError("a served model needs a public name and the name of its RerankModel")
        if self.weight is not None and not 0 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"the weight {self.weight} of model {self.name!r} is not in 0 to {MAX_WEIGHT}")
        if self.progress is not None and not 0 <= self.progress <= 1:
            raise ValueError(f"the progress {self.progress} of model {self.name!r} is not between 0 and 1")

    @property
    def parts(self) -> "tuple[Part, ...]":
        """Who answers under this name; more than one where RerankModels share it."""
        return (Part(self, 1),)

    @property
    def wakes(self) -> str:
        """The RerankModel that a request wakes."""
        return self.model


@dataclass(frozen=True)
class Part:
    """One RerankModel's part of the requests for a public name."""

    model: ServedModel
    weight: int
    """Beside those of the others that take traffic; 0 is none."""


@dataclass(frozen=True)
class Consumer:
    """Who calls: by which keys the gateway knows it, and what it may do.

    Raises ValueError for what Envoy would refuse together with everybody else's keys.
    """

    name: str
    """The RerankConsumer: `namespace/name` in a cluster, its name alone on one machine."""
    digests: tuple[str, ...] = ()
    """SHA-256 of each key that counts, in lower-case hexadecimal; several while a key is replaced."""
    models: tuple[str, ...] = ()
    """Public names of the models that it may call; `*` alone stands for all."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        if not _CONSUMER_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot name a consumer: it travels in a header")
        for digest in self.digests:
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"a digest of consumer {self.name!r} is not 64 hexadecimal digits")
        for limit in (self.requests_per_minute, self.tokens_per_minute):
            if limit is not None and not 1 <= limit <= MAX_PER_MINUTE:
                raise ValueError(
                    f"a limit of consumer {self.name!r} is not from 1 to {MAX_PER_MINUTE} a minute"
                )

    def may_call(self, name: str) -> bool:
        """Say whether it may call the model of this public name."""
        return self.models == (ALL_MODELS,) or name in self.models


@dataclass(frozen=True)
class View:
    """Everything that is served, and everybody who may ask for it, at one moment, in any order."""

    models: tuple[ServedModel, ...] = ()
    consumers: tuple[Consumer, ...] = ()
