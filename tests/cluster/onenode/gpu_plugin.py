"""A device plugin that offers GPUs which are none: `python -m tests.cluster.onenode.gpu_plugin DIR FILE`.

DIR is where the kubelet's socket is, FILE holds the number of GPUs and is read again all the time. A
container that is given some sees which in NVIDIA_VISIBLE_DEVICES, as with NVIDIA's own plugin.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from tests.cluster.onenode.addresses import GPU_RESOURCE
from tests.cluster.onenode.gpu_messages import CLASSES, VERSION, make

SOCKET = "rerank-test-gpu.sock"
KUBELET_SOCKET = "kubelet.sock"
POLL_S = 0.2
VARIABLE = "NVIDIA_VISIBLE_DEVICES"


class Plugin:
    """Answers the kubelet."""

    def __init__(self, count: Path) -> None:
        self.count = count
        self.ended = threading.Event()

    def devices(self) -> tuple[str, ...]:
        """Return the names of the GPUs that there are now."""
        return tuple(f"gpu-{number}" for number in range(int(self.count.read_text(encoding="utf-8"))))

    def options(self, request: Any, context: Any) -> Any:
        """Ask for no more calls than the needed ones."""
        return make("DevicePluginOptions")

    def list_and_watch(self, request: Any, context: Any) -> Iterator[Any]:
        """Send the devices, and again whenever they change."""
        sent: tuple[str, ...] | None = None
        while not self.ended.is_set() and context.is_active():
            devices = self.devices()
            if devices != sent:
                sent = devices
                listed = [make("Device", ID=device, health="Healthy") for device in devices]
                yield make("ListAndWatchResponse", devices=listed)
            self.ended.wait(POLL_S)

    def allocate(self, request: Any, context: Any) -> Any:
        """Tell each container which devices are its own."""
        answers = []
        for container in request.container_requests:
            visible = make("Env", key=VARIABLE, value=",".join(sorted(container.devices_ids)))
            answers.append(make("ContainerAllocateResponse", envs=[visible]))
        return make("AllocateResponse", container_responses=answers)

    def handlers(self) -> Any:
        """Return the methods as gRPC wants them."""
        service = f"{VERSION}.DevicePlugin"
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            service,
            {
                name: kind(
                    method,
                    request_deserializer=CLASSES[request].FromString,
                    response_serializer=CLASSES[answer].SerializeToString,
                )
                for name, kind, method, request, answer in (
                    ("GetDevicePluginOptions", unary, self.options, "Empty", "DevicePluginOptions"),
                    ("ListAndWatch", stream, self.list_and_watch, "Empty", "ListAndWatchResponse"),
                    ("Allocate", unary, self.allocate, "AllocateRequest", "AllocateResponse"),
                )
            },
        )


def serve(plugin: Plugin, directory: Path) -> Any:
    """Listen on the plugin's socket; return the server."""
    path = directory / SOCKET
    path.unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((plugin.handlers(),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


def register(directory: Path) -> None:
    """Tell the kubelet of the plugin; raise grpc.RpcError if it does not answer."""
    with grpc.insecure_channel(f"unix:{directory / KUBELET_SOCKET}") as channel:
        call = channel.unary_unary(
            f"/{VERSION}.Registration/Register",
            request_serializer=CLASSES["RegisterRequest"].SerializeToString,
            response_deserializer=CLASSES["Empty"].FromString,
        )
        call(make("RegisterRequest", version=VERSION, endpoint=SOCKET, resource_name=GPU_RESOURCE), timeout=5)


def run(plugin: Plugin, directory: Path) -> None:
    """Serve and register until the plugin is to end. A kubelet that starts deletes every plugin's socket."""
    server = serve(plugin, directory)
    registered: tuple[int, int] | None = None
    while not plugin.ended.wait(POLL_S):
        kubelet = _identity(directory / KUBELET_SOCKET)
        if kubelet == registered and _identity(directory / SOCKET) is not None:
            continue
        if _identity(directory / SOCKET) is None:
            server.stop(grace=None)
            server = serve(plugin, directory)
        registered = None
        if kubelet is None:
            continue
        try:
            register(directory)
        except grpc.RpcError as error:
            print(f"The kubelet does not take the registration yet: {error}", flush=True)
            continue
        registered = kubelet
        print("Registered", flush=True)
    server.stop(grace=None)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one socket from a later one at the same path."""
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_ctime_ns


def main() -> None:
    """Run until SIGTERM."""
    directory, count = Path(sys.argv[1]), Path(sys.argv[2])
    plugin = Plugin(count)
    signal.signal(signal.SIGTERM, lambda *_: plugin.ended.set())
    os.umask(0o077)
    run(plugin, directory)


if __name__ == "__main__":
    main()
