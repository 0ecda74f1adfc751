"""The grammar of names, the public ones that clients send and a RerankModel's own; who keeps a contested one.

Both patterns mean the same to Python, to RE2 (CEL, Go) and to Rust's regex: no look-around, no backslashes.
"""

import re
from typing import Final, TypeAlias

MODEL_NAME_MAX_LENGTH: Final = 253
MODEL_NAME_PATTERN: Final = "^[A-Za-z0-9](?:(?:/[A-Za-z0-9_:@-]|[A-Za-z0-9._:@-])*/?[A-Za-z0-9])?$"
"""A public model name, as `BAAI/bge-reranker-v2-m3` or `bge:v2@prod`.

No path segment may be empty or begin with a dot, because a name also travels in a URL's path, where `//`,
`/./` and `/../` are rewritten on the way.
"""

RESOURCE_NAME_MAX_LENGTH: Final = 63
RESOURCE_NAME_PATTERN: Final = "^[a-z](?:[a-z0-9-]*[a-z0-9])?$"
"""A RerankModel's `metadata.name`. It becomes a Service's name, hence a DNS label as of RFC 1035."""

CONSUMER_NAME_MAX_LENGTH: Final = 253
CONSUMER_NAME_PATTERN: Final = "^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$"
"""A RerankConsumer's `metadata.name`. It travels in a header, and stands in the log beside each request."""

MODEL_LABEL: Final = "rerank.dev/model"
"""On everything that is built for a RerankModel: its `metadata.name`. The gateway finds it by this."""

_MODEL_NAME = re.compile(MODEL_NAME_PATTERN)
_RESOURCE_NAME = re.compile(RESOURCE_NAME_PATTERN)
_CONSUMER_NAME = re.compile(CONSUMER_NAME_PATTERN)


def is_model_name(name: str) -> bool:
    """Say whether clients may ask for a model under this name."""
    return len(name) <= MODEL_NAME_MAX_LENGTH and _MODEL_NAME.fullmatch(name) is not None


def is_resource_name(name: str) -> bool:
    """Say whether a RerankModel may have this `metadata.name`."""
    return len(name) <= RESOURCE_NAME_MAX_LENGTH and _RESOURCE_NAME.fullmatch(name) is not None


def is_consumer_name(name: str) -> bool:
    """Say whether a RerankConsumer may have this `metadata.name`."""
    return len(name) <= CONSUMER_NAME_MAX_LENGTH and _CONSUMER_NAME.fullmatch(name) is not None


Seniority: TypeAlias = tuple[str | int, str, str]
"""Sorts RerankModels, the oldest first; of two that are compared the first parts are of one type."""


def seniority(created: str | int, namespace: str, name: str) -> Seniority:
    """Return the key that sorts RerankModels by who keeps a public name, or a host, that several claim.

    The oldest does, then the first by namespace, then by name. `created` is `metadata.creationTimestamp` as
    Kubernetes writes it, `2026-01-31T23:59:59Z`: always UTC, always to the second, so that it sorts as text.
    Elsewhere it is any number that grows with time.
    """
    return (created, namespace, name)
