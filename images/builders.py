"""The programs that build images: buildah or docker, with the same files."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from images.commands import Environment, ask, show
from images.errors import MissingError
from images.recipe import ROOT, Recipe


class Builder(Protocol):
    """Builds an image and keeps it under its reference."""

    def build(self, recipe: Recipe, secrets: Mapping[str, Path], target: str = "") -> None:
        """Build, or only up to the stage `target`; raise CommandError."""


@dataclass(frozen=True)
class Buildah:
    """Buildah, with the user's own storage unless `options` name another.

    Isolated with chroot, it builds also where namespaces are not to be had; what it runs is our own files.
    """

    options: tuple[str, ...] = ()
    quiet: bool = False
    environment: Environment = field(
        default_factory=lambda: {"BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot")}
    )

    def build(self, recipe: Recipe, secrets: Mapping[str, Path], target: str = "") -> None:
        """Build with a cache of layers."""
        command = ["buildah", *self.options, "build", "--layers", *arguments(recipe, secrets, target)]
        (ask if self.quiet else show)(command, self.environment)


@dataclass(frozen=True)
class Docker:
    """Docker with BuildKit, which the secrets need."""

    def build(self, recipe: Recipe, secrets: Mapping[str, Path], target: str = "") -> None:
        """Build with a cache of layers."""
        show(["docker", "build", *arguments(recipe, secrets, target)], {"DOCKER_BUILDKIT": "1"})


def arguments(recipe: Recipe, secrets: Mapping[str, Path], target: str = "") -> list[str]:
    """Return what both builders understand; a `target` is tagged so that pruning leaves it."""
    reference = f"localhost/rerank-stage-{target}:{recipe.name}" if target else recipe.reference
    return [
        *(f"--build-arg={name}={value}" for name, value in recipe.arguments.items()),
        *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
        *([f"--target={target}"] if target else []),
        f"--file={ROOT / recipe.containerfile}",
        f"--tag={reference}",
        str(ROOT),
    ]


def find(asked: str) -> Builder:
    """Return the builder `asked` for ("" is whichever is there); raise MissingError with what to install."""
    if asked not in ("", "buildah", "docker"):
        raise MissingError(f"BUILDER is {asked!r}: it can be buildah or docker.")
    if asked != "docker" and shutil.which("buildah"):
        return Buildah()
    if asked != "buildah" and _docker_answers():
        return Docker()
    raise MissingError(
        f"Images are built with {asked or 'buildah or docker'}, which does not work here: "
        "install buildah (Debian: apt-get install buildah), or start Docker."
    )


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
