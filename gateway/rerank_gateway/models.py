"""What the gateway knows of a model that it serves: a public name, how it stands, and where it answers."""

import functools
import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

from rerank_api.status import ModelState


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

    def __post_init__(self) -> None:
        if not self.name or not self.model:
            raise ValueError("a served model needs a public name and the name of its RerankModel")
        if self.progress is not None and not 0 <= self.progress <= 1:
            raise ValueError(f"the progress {self.progress} of model {self.name!r} is not between 0 and 1")


View: TypeAlias = tuple[ServedModel, ...]
"""Every served model at one moment, in any order."""
