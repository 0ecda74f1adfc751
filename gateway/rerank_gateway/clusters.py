"""Which of Envoy's clusters a request is sent to: the agent names them, the Lua filter picks one."""

import re

CLUSTER_HEADER = "x-rerank-cluster"
"""Holds a request's cluster from the Lua filter to the router; it never leaves Envoy."""

NAME_PREFIX = "m/"
HOST_PREFIX = "h/"


def name_cluster(public_name: str) -> str:
    """Name the cluster, and its endpoints, of a public model name."""
    return f"{NAME_PREFIX}{public_name}"


def host_cluster(host: str) -> str:
    """Name the cluster, and its endpoints, of a host: it takes the requests that name no model."""
    return f"{HOST_PREFIX}{host}"


def host_of(authority: str) -> str:
    """Return the host as models have it, and as `route.lua` reads it: no port, lower case."""
    return re.sub(r":\d*$", "", authority).lower()
