"""Where the agent learns its models from."""

from collections.abc import AsyncGenerator
from typing import Protocol

from rerank_gateway.models import View


class Source(Protocol):
    """Tells complete views of the world, one after the other, until it is cancelled.

    The first view comes only once it is complete: an agent that spoke earlier would tell Envoy to delete
    what it has not heard of yet. A source outlives what it reads: when that is away or broken, it keeps
    silent, logs why, and goes on with the next complete view. Between two views it may skip any number of
    states that were superseded.
    """

    def views(self) -> AsyncGenerator[View, None]:
        """Yield views; ends only by being closed or cancelled, and then frees what it holds."""
        ...
