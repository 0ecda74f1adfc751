"""How many GPUs the kubelet has to give, as it says itself.

The node's status says so too, but late: after the kubelet restarts it still shows what was before.
"""

from pathlib import Path

import grpc

from tests.cluster.onenode.addresses import GPU_RESOURCE
from tests.cluster.onenode.gpu_messages import CLASSES, make

TIMEOUT_S = 2.0
METHOD = "/v1.PodResourcesLister/GetAllocatableResources"


def known_to_kubelet(root: Path) -> int | None:
    """Return the number; None if the kubelet with this root directory does not answer."""
    with grpc.insecure_channel(f"unix:{root / 'pod-resources' / 'kubelet.sock'}") as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=CLASSES["Empty"].SerializeToString,
            response_deserializer=CLASSES["AllocatableResourcesResponse"].FromString,
        )
        try:
            answer = call(make("Empty"), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return None
    return sum(len(one.device_ids) for one in answer.devices if one.resource_name == GPU_RESOURCE)
