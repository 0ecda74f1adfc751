"""Programs that come from Debian's packages, and the kernel features that they need."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.cluster.onenode.errors import MissingError

CNI_PLUGINS = Path("/usr/lib/cni")
# What must be there: a command, or a file; and the package that has it.
NEEDED = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    str(CNI_PLUGINS / "bridge"): "containernetworking-plugins",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "busybox": "busybox-static",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
}
FEATURES = {
    "overlay": "/sys/module/overlay",
    "br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",
}


def missing(present: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the packages of which something is absent, in the table's order, each once."""
    return tuple(dict.fromkeys(package for needed, package in NEEDED.items() if not present(needed)))


def ensure() -> None:
    """Install what is absent; raise MissingError where that cannot be done."""
    if os.geteuid() != 0:
        raise MissingError(
            "The test cluster needs root, for network namespaces, mounts and control groups: "
            "run it with sudo, or set KUBECONFIG to a cluster that the tests may use."
        )
    _install(missing(_present))
    _refuse_dynamic_busybox()
    for feature, sign in FEATURES.items():
        _load(feature, Path(sign))


def _present(needed: str) -> bool:
    return Path(needed).exists() if needed.startswith("/") else shutil.which(needed) is not None


def _install(packages: Iterable[str]) -> None:
    names = " ".join(packages)
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise MissingError(
            f"This machine lacks what Debian packages as: {names}. It has no apt-get: install them by hand."
        )
    print(f"Installing {names} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *names.split()]):
        done = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, check=False
        )
    if absent := missing(_present):
        raise MissingError(
            f"`apt-get install {names}` did not bring {' '.join(absent)}; it said:\n{done.stderr[-2000:]}"
        )


def _refuse_dynamic_busybox() -> None:
    """The pause image holds nothing but busybox, so it must not ask for a dynamic loader."""
    found = Path(shutil.which("busybox") or "")
    if b"/ld-linux" in found.read_bytes()[:4096]:
        raise MissingError(
            f"{found} is not statically linked: install the package busybox-static in place of busybox."
        )


def _load(feature: str, sign: Path) -> None:
    if sign.exists() or feature in Path("/proc/filesystems").read_text(encoding="utf-8"):
        return
    if shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", feature], capture_output=True, check=False)
    if not sign.exists():
        raise MissingError(f"The kernel lacks {feature}: load its module (modprobe {feature}).")
