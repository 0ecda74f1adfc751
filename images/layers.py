"""Which layers of an image travel: pure.

A layer has two digests: of its tar archive (`diff_id`, in the image's configuration), and of the blob that it
is stored as, which may be compressed. The two lists of an image, in its manifest and in its configuration,
are in the same order (OCI image specification, "config.md").
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Archive:
    """An OCI layout to import: `files` by name, and the digests of the `blobs` to add to them."""

    files: Mapping[str, bytes]
    blobs: tuple[str, ...]


def known(images: Iterable[tuple[Json, Json]], blobs: frozenset[str]) -> dict[str, Json]:
    """Return the descriptors of the layers that are there, by diff_id, from (manifest, configuration) pairs.

    A layer counts as there when its blob is: `blobs` are the digests that the store holds.
    """
    return {
        diff_id: layer
        for manifest, configuration in images
        for diff_id, layer in zip(configuration["rootfs"]["diff_ids"], manifest["layers"], strict=True)
        if layer["digest"] in blobs
    }


def archive(manifest: Json, reference: str, there: Mapping[str, Json]) -> Archive:
    """Return what the store lacks of an image whose known layers were written as their diff_ids."""
    layers = [there.get(layer["digest"], layer) for layer in manifest["layers"]]
    written = json.dumps({**manifest, "layers": layers}).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": MANIFEST,
                "digest": digest_of(written),
                "size": len(written),
                "annotations": {"io.containerd.image.name": reference},
            }
        ],
    }
    new = [layer["digest"] for layer in manifest["layers"] if layer["digest"] not in there]
    return Archive(
        files={
            "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
            "index.json": json.dumps(index).encode(),
            blob_path(digest_of(written)): written,
        },
        blobs=tuple(dict.fromkeys([manifest["config"]["digest"], *new])),
    )


def superseded(images: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that nobody gave, of images that nobody calls by another name any more.

    `images` are digests by name. The kubelet's side of containerd names each image by its configuration's
    digest too, and that name stays when a tag moves on.
    """
    named = {digest for name, digest in images.items() if not name.startswith("sha256:")}
    return tuple(
        name for name, digest in images.items() if name.startswith("sha256:") and digest not in named
    )


def blob_path(digest: str) -> str:
    """Return where an OCI layout has a blob."""
    return f"blobs/{digest.replace(':', '/')}"


def digest_of(blob: bytes) -> str:
    """Return the digest of a blob, as sha256:…"""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
