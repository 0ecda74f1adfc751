"""The test cluster's containerd, asked with its own tool."""

import contextlib
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from images.commands import ask, feed
from images.errors import CommandError, MissingError
from images.layers import Archive, Json, blob_path

NAMESPACE = "k8s.io"  # the kubelet's
INPUTS = "rerank.dev/inputs"
"""The label of an image in containerd that says what it was made of."""


@dataclass(frozen=True)
class Containerd:
    """One containerd, by its socket."""

    socket: Path

    @classmethod
    def of_test_cluster(cls, environment: Mapping[str, str]) -> "Containerd":
        """Return the running test cluster's; raise MissingError where images must go another way."""
        cluster = Path(environment.get("RERANK_CLUSTER_DIR") or "/var/lib/rerank-test-cluster").resolve()
        chosen = environment.get("KUBECONFIG")
        if chosen and not Path(chosen).resolve().is_relative_to(cluster):
            raise MissingError(
                f"KUBECONFIG is {chosen}, which is not the test cluster's: that one pulls from a registry. "
                "Build with `make images REGISTRY=…`, push both, and name them in the chart's values "
                "(docs/images.md)."
            )
        socket = cluster / "containerd/containerd.sock"
        if not socket.is_socket():
            raise MissingError("The test cluster does not run: `make cluster` starts it.")
        if not shutil.which("ctr", path=environment.get("PATH")):
            raise MissingError("Images are loaded with containerd's ctr: apt-get install containerd.")
        return cls(socket)

    def inputs(self, reference: str) -> str:
        """Return what the image there was made of; "" without such an image."""
        for line in self._ctr("images", "list", f"name=={reference}").splitlines()[1:]:
            for label in line.split()[-1].split(","):
                name, _, value = label.partition("=")
                if name == INPUTS:
                    return value
        return ""

    def images(self) -> dict[str, str]:
        """Return the digests of the images' manifests, by name."""
        lines = (line.split() for line in self._ctr("images", "list").splitlines()[1:])
        return {line[0]: next(word for word in line[1:] if word.startswith("sha256:")) for line in lines}

    def blobs(self) -> frozenset[str]:
        """Return the digests of all blobs."""
        return frozenset(self._ctr("content", "list", "--quiet").split())

    def described(self, references: tuple[str, ...]) -> list[tuple[Json, Json]]:
        """Return manifest and configuration of those of the images that are there whole."""
        found, there = [], self.images()
        for reference in references:
            if reference in there:
                with contextlib.suppress(CommandError):
                    manifest = self._json(there[reference])
                    found.append((manifest, self._json(manifest["config"]["digest"])))
        return found

    def load(self, archive: Archive, layout: Path) -> None:
        """Import an archive, whose blobs are in the OCI layout `layout`, without writing it anywhere."""
        feed([*self._command, "images", "import", "-"], lambda output: _write(archive, layout, output))

    def mark(self, reference: str, inputs: str) -> None:
        """Note what an image was made of.

        The kubelet's side of containerd marks images that it named by their configuration's digest. An import
        keeps the mark of what had the tag before: it is taken away here, so that the new one is named too.
        """
        self._ctr("images", "label", reference, f"{INPUTS}={inputs}", "io.cri-containerd.image=")

    def remove(self, names: tuple[str, ...]) -> None:
        """Forget images by name: containerd then deletes what nothing else needs. Containers keep theirs."""
        if names:
            self._ctr("images", "remove", *names)

    @property
    def _command(self) -> list[str]:
        return ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE]

    def _ctr(self, *arguments: str) -> str:
        return ask([*self._command, *arguments])

    def _json(self, digest: str) -> Json:
        found: Json = json.loads(self._ctr("content", "get", digest))
        return found


def _write(archive: Archive, layout: Path, output: IO[bytes]) -> None:
    with tarfile.open(fileobj=output, mode="w|", bufsize=1 << 20) as tar:
        for name, content in archive.files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
        for digest in archive.blobs:
            path = layout / blob_path(digest)
            with path.open("rb") as blob:
                entry = tarfile.TarInfo(blob_path(digest))
                entry.size = os.fstat(blob.fileno()).st_size
                tar.addfile(entry, blob)
