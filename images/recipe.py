"""What an image is made of: pure, but for the files that are read."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("server", "control")
SOURCES = ("LICENSE", "README.md", "api", "cli", "gateway", "locks", "operator", "pyproject.toml", "server")
"""What the builders may see: what .dockerignore lets through."""


@dataclass(frozen=True)
class Recipe:
    """One image to build, under its full name `reference`; "" leaves what the Containerfile says."""

    name: str
    reference: str
    version: str
    base: str = ""
    packages: str = ""

    @property
    def containerfile(self) -> Path:
        """Return the file that is built, from the repository's root."""
        return Path("images") / f"{self.name}.Containerfile"

    @property
    def arguments(self) -> dict[str, str]:
        """Return the build arguments."""
        chosen = {"VERSION": self.version, "BASE": self.base, "PACKAGES": self.packages}
        return {name: value for name, value in chosen.items() if value}


def recipes(registry: str, tag: str, version: str, base: str = "", packages: str = "") -> tuple[Recipe, ...]:
    """Return the server's and the control's; `packages` are the server's alone."""
    return tuple(
        Recipe(
            name,
            f"{registry.rstrip('/')}/rerank-{name}:{tag}",
            version,
            base,
            packages if name == "server" else "",
        )
        for name in NAMES
    )


def version(root: Path = ROOT) -> str:
    """Return the version of this checkout."""
    text = (root / "api/rerank_api/__init__.py").read_text(encoding="utf-8")
    [found] = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(found)


def digest(recipe: Recipe, base_recipe: str, root: Path = ROOT) -> str:
    """Return what changes whenever the image would; `base_recipe` stands for what the base is made of."""
    hashed = hashlib.sha256()
    for part in (recipe.reference, repr(sorted(recipe.arguments.items())), base_recipe):
        hashed.update(hashlib.sha256(part.encode()).digest())
    for path in (root / recipe.containerfile, root / ".dockerignore", *_files(root)):
        hashed.update(hashlib.sha256(str(path.relative_to(root)).encode()).digest())
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for source in SOURCES:
        path = root / source
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
