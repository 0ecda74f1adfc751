"""The messages of the kubelet's device plugin protocol, version v1beta1, as far as our plugin speaks it.

Names and numbers are those of k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto; what is absent here is
optional there. A map of protobuf is, on the wire, a list of pairs, and is one here. The last two are of
k8s.io/kubelet/pkg/apis/podresources/v1/api.proto: with them the kubelet says what it has to give.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = "v1beta1"
Field = descriptor_pb2.FieldDescriptorProto
STRING, BOOL = "string", "bool"
# Message: its fields in order, as (name, number, type, repeated).
SCHEMA: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Empty": (),
    "DevicePluginOptions": (
        ("pre_start_required", 1, BOOL, False),
        ("get_preferred_allocation_available", 2, BOOL, False),
    ),
    "RegisterRequest": (
        ("version", 1, STRING, False),
        ("endpoint", 2, STRING, False),
        ("resource_name", 3, STRING, False),
        ("options", 4, "DevicePluginOptions", False),
    ),
    "Device": (("ID", 1, STRING, False), ("health", 2, STRING, False)),
    "ListAndWatchResponse": (("devices", 1, "Device", True),),
    "ContainerAllocateRequest": (("devices_ids", 1, STRING, True),),
    "AllocateRequest": (("container_requests", 1, "ContainerAllocateRequest", True),),
    "Env": (("key", 1, STRING, False), ("value", 2, STRING, False)),
    "ContainerAllocateResponse": (("envs", 1, "Env", True),),
    "AllocateResponse": (("container_responses", 1, "ContainerAllocateResponse", True),),
    "ContainerDevices": (("resource_name", 1, STRING, False), ("device_ids", 2, STRING, True)),
    "AllocatableResourcesResponse": (("devices", 1, "ContainerDevices", True),),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/cluster/onenode/device_plugin.proto", package=VERSION, syntax="proto3"
    )
    for message, fields in SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = described.field.add(name=name, number=number)
            field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            if kind in (STRING, BOOL):
                field.type = Field.TYPE_STRING if kind == STRING else Field.TYPE_BOOL
            else:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{VERSION}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{VERSION}.{name}"))
        for name in SCHEMA
    }


CLASSES = _classes()


def make(message: str, **fields: Any) -> Any:
    """Return a message of this name."""
    return CLASSES[message](**fields)
