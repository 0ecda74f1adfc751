"""Two images made of Debian's static busybox, without a registry: the pods' pause, and a small one for tests.

Busybox linked statically crashes when it looks a name up in DNS: use addresses with it.
"""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.cluster.onenode import addresses
from tests.cluster.onenode.errors import MissingError, OneNodeError
from tests.cluster.onenode.state import State

NAMESPACE = "k8s.io"  # the kubelet's, in containerd
# As the first process of a container it must end when asked, which `sleep` alone does not.
PAUSE = ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait; done")
APPLETS = (
    "sh",
    "sleep",
    "cat",
    "ls",
    "id",
    "env",
    "echo",
    "test",
    "httpd",
    "wget",
    "nc",
    "mkdir",
    "touch",
    "kill",
)
OCI = "application/vnd.oci.image"


def load(state: State) -> None:
    """Bring both images into containerd, unless they are there."""
    there = _ctr(state, "images", "list", "-q").split()
    if {addresses.PAUSE_IMAGE, addresses.BUSYBOX_IMAGE} <= set(there):
        return
    found = shutil.which("busybox")
    if found is None:
        raise MissingError("There is no busybox: install the package busybox-static.")
    archive = state.root / "busybox.tar"
    archive.write_bytes(
        oci_archive(Path(found).read_bytes(), (addresses.PAUSE_IMAGE, addresses.BUSYBOX_IMAGE))
    )
    _ctr(state, "images", "import", str(archive))
    archive.unlink()


def oci_archive(busybox: bytes, names: tuple[str, ...]) -> bytes:
    """Return an OCI image layout as a tar archive: one image, under every one of the names."""
    layer = _layer(busybox)
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": list(PAUSE), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _descriptor(f"{OCI}.config.v1+json", config),
            "layers": [_descriptor(f"{OCI}.layer.v1.tar+gzip", packed)],
        }
    ).encode()
    listed = [
        _descriptor(f"{OCI}.manifest.v1+json", manifest) | {"annotations": {"io.containerd.image.name": name}}
        for name in names
    ]
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": listed}).encode(),
        **{f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (config, manifest, packed)},
    }
    return _tar(files)


def _layer(busybox: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for directory, mode in (("bin", 0o755), ("tmp", 0o1777), ("www", 0o755)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return made.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _ctr(state: State, *arguments: str) -> str:
    command = ["ctr", "--address", str(state.containerd_socket), "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OneNodeError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
