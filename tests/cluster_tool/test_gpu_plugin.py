"""The device plugin against a kubelet of ours, over the real protocol."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster.onenode import gpu_plugin, probes
from tests.cluster.onenode.gpu_messages import CLASSES, VERSION, make

WITHIN_S = 120.0


class Kubelet:
    """Takes registrations on the socket where the kubelet has it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registered: list[Any] = []
        self.server: Any = None

    def start(self) -> None:
        """Start as the kubelet does: delete every socket in the directory first."""
        for socket in self.directory.glob("*.sock"):
            socket.unlink()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self.register,
            request_deserializer=CLASSES["RegisterRequest"].FromString,
            response_serializer=CLASSES["Empty"].SerializeToString,
        )
        methods = grpc.method_handlers_generic_handler(f"{VERSION}.Registration", {"Register": handler})
        self.server.add_generic_rpc_handlers((methods,))
        self.server.add_insecure_port(f"unix:{self.directory / gpu_plugin.KUBELET_SOCKET}")
        self.server.start()

    def stop(self) -> None:
        """Stop answering."""
        self.server.stop(None).wait()

    def register(self, request: Any, context: Any) -> Any:
        """Note who registers."""
        self.registered.append(request)
        return make("Empty")


@pytest.fixture
def count(tmp_path: Path) -> Path:
    file = tmp_path / "gpus"
    file.write_text("2", encoding="utf-8")
    return file


@pytest.fixture
def kubelet(tmp_path: Path, count: Path) -> Iterator[Kubelet]:
    kubelet = Kubelet(tmp_path)
    kubelet.start()
    plugin = gpu_plugin.Plugin(count)
    running = threading.Thread(target=gpu_plugin.run, args=(plugin, tmp_path))
    running.start()
    yield kubelet
    plugin.ended.set()
    running.join()
    kubelet.stop()


def call(channel: Any, kind: str, method: str, request: str, answer: str) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(channel, kind)(
        f"/{VERSION}.DevicePlugin/{method}",
        request_serializer=CLASSES[request].SerializeToString,
        response_deserializer=CLASSES[answer].FromString,
    )
    return made


def test_it_registers_its_resource_under_its_socket(kubelet: Kubelet) -> None:
    assert probes.wait(lambda: bool(kubelet.registered), WITHIN_S)
    request = kubelet.registered[0]
    assert (request.version, request.endpoint) == ("v1beta1", gpu_plugin.SOCKET)
    assert request.resource_name == "nvidia.com/gpu"


def test_it_sends_the_devices_again_when_their_number_changes(kubelet: Kubelet, count: Path) -> None:
    with grpc.insecure_channel(f"unix:{kubelet.directory / gpu_plugin.SOCKET}") as channel:
        watch = call(channel, "unary_stream", "ListAndWatch", "Empty", "ListAndWatchResponse")
        lists = watch(make("Empty"), wait_for_ready=True, timeout=WITHIN_S)
        assert [(device.ID, device.health) for device in next(lists).devices] == [
            ("gpu-0", "Healthy"),
            ("gpu-1", "Healthy"),
        ]
        count.write_text("3", encoding="utf-8")
        assert [device.ID for device in next(lists).devices] == ["gpu-0", "gpu-1", "gpu-2"]
        lists.cancel()


def test_a_container_sees_its_own_devices_in_its_environment(kubelet: Kubelet) -> None:
    with grpc.insecure_channel(f"unix:{kubelet.directory / gpu_plugin.SOCKET}") as channel:
        allocate = call(channel, "unary_unary", "Allocate", "AllocateRequest", "AllocateResponse")
        wanted = [
            make("ContainerAllocateRequest", devices_ids=["gpu-1"]),
            make("ContainerAllocateRequest", devices_ids=["gpu-2", "gpu-0"]),
        ]
        request = make("AllocateRequest", container_requests=wanted)
        answer = allocate(request, wait_for_ready=True, timeout=WITHIN_S)
    seen = [[(env.key, env.value) for env in container.envs] for container in answer.container_responses]
    assert seen == [[("NVIDIA_VISIBLE_DEVICES", "gpu-1")], [("NVIDIA_VISIBLE_DEVICES", "gpu-0,gpu-2")]]


def test_it_registers_anew_with_a_kubelet_that_restarts_and_deletes_its_socket(kubelet: Kubelet) -> None:
    assert probes.wait(lambda: len(kubelet.registered) == 1, WITHIN_S)
    kubelet.stop()
    kubelet.start()
    assert probes.wait(lambda: len(kubelet.registered) == 2, WITHIN_S)
    assert probes.answers(f"unix:{kubelet.directory / gpu_plugin.SOCKET}")
