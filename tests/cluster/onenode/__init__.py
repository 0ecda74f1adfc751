"""A real Kubernetes of one node as a test tool: `make cluster`, `make cluster-down`, and what tests import.

Every part is the real one, built from pinned Go modules: etcd, API server, controllers, scheduler, kubelet on
containerd, kube-proxy, CoreDNS, and Contour with Envoy for Ingresses and HTTPRoutes. Only the GPUs are none.
"""

from tests.cluster.onenode.cluster import Cluster, OneNode, find
from tests.cluster.onenode.errors import OneNodeError

__all__ = ["Cluster", "OneNode", "OneNodeError", "find"]
