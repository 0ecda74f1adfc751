"""Names and addresses of the cluster.

All are of the range for tests of networks (198.18.0.0/15, RFC 2544), so that a mistake can never reach a real
machine. Those for documentation would not do: some machines hide real addresses behind them. All are inside
the cluster's own network namespace: another machine cannot reach them, and its ports are not this machine's.
"""

NODE_NAME = "node-1"
NODE = "198.18.0.2"  # the node; the control plane listens here too
HOST = "198.18.0.3"  # this machine, as pods see it
PODS = "198.18.1.0/24"
SERVICES = "198.18.2.0/25"
API_SERVICE = "198.18.2.1"
DNS_SERVICE = "198.18.2.10"

API_URL = f"https://{NODE}:6443"
ETCD_URL = (
    "http://127.0.0.1:2379"  # the namespace's loopback: no pod reaches it, and it asks for no certificate
)
XDS_PORT = 8001

INGRESS_ADDRESS = "127.0.0.1"  # Envoy alone is on this machine's own network
INGRESS_PORT = 18080
STATS_PORT = INGRESS_PORT + 1
ADMIN_PORT = INGRESS_PORT + 2  # what Envoy tells of itself; Contour cannot leave it out
GATEWAY_PORT = INGRESS_PORT - 8000  # Contour serves a Gateway's port 8000 higher

PAUSE_IMAGE = "localhost/pause:1"
BUSYBOX_IMAGE = "localhost/busybox:1"
GPU_RESOURCE = "nvidia.com/gpu"
