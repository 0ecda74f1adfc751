"""A base for the test images where no image registry can be reached: Debian's minimal system with Python."""

import hashlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from images.commands import ask
from images.errors import CommandError, MissingError

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates", "libgomp1")
REFERENCE = "localhost/python:3.11"
UNNEEDED = (
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
RECIPE = hashlib.sha256(repr((SUITE, PACKAGES, UNNEEDED)).encode()).hexdigest()
LABEL = "dev.rerank.recipe"


def mirror(targets: str) -> str:
    """Return where this machine gets Debian from ("" for debootstrap's default).

    `targets` is a line a package list of apt's: address, suite's name, component.
    """
    for line in targets.splitlines():
        match line.split():
            case [address, codename, "main"] if codename == SUITE and address.startswith("http"):
                return address
    return ""


def ensure(buildah: list[str]) -> None:
    """Make the base, unless the storage of the command `buildah` has it."""
    if _recipe_of(buildah) == RECIPE:
        return
    if not shutil.which("debootstrap"):
        raise MissingError("The test images' base is made with debootstrap: apt-get install debootstrap.")
    print(f"Making {REFERENCE} of Debian {SUITE} …", flush=True)
    with TemporaryDirectory(prefix="rerank-debian-", dir="/var/tmp") as directory:
        root = Path(directory) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        ask([*command, *filter(None, [mirror(_apt_targets())])])
        for unneeded in UNNEEDED:
            shutil.rmtree(root / unneeded, ignore_errors=True)
        container = ask([*buildah, "from", "scratch"]).strip()
        ask([*buildah, "add", "--quiet", container, str(root), "/"])
        ask([*buildah, "config", f"--label={LABEL}={RECIPE}", container])
        ask([*buildah, "commit", "--quiet", "--rm", container, REFERENCE])


def _recipe_of(buildah: list[str]) -> str:
    template = f'{{{{index .OCIv1.Config.Labels "{LABEL}"}}}}'
    try:
        return ask([*buildah, "inspect", "--type=image", f"--format={template}", REFERENCE]).strip()
    except CommandError:
        return ""


def _apt_targets() -> str:
    if not shutil.which("apt-get"):
        return ""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"]
    return ask([*command, "Created-By: Packages"])
