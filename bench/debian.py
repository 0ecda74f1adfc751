"""Programs from Debian's packages, unpacked into a folder: nothing is installed, no service starts."""

import shutil
import subprocess
from pathlib import Path


def unpacked(build: Path, *packages: str) -> Path:
    """Return a root folder that holds these packages' files, and nothing that they depend on.

    Raises RuntimeError where apt-get is missing or cannot have them, with its last word.
    """
    root = (build / "debian" / "+".join(packages)).absolute()
    done = root / ".done"
    if done.exists():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise RuntimeError("it comes from Debian's packages, and there is no apt-get here")
    root.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(
        ["apt-get", "download", "-q", *packages], cwd=root, capture_output=True, text=True, check=False
    )
    if fetched.returncode:
        raise RuntimeError(f"apt-get has no {', '.join(packages)}: {fetched.stderr.strip()[-200:]}")
    for package in sorted(root.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=root, check=True)
    done.touch()
    return root


def libraries(root: Path) -> dict[str, str]:
    """Return the environment in which its programs find the libraries beside them."""
    return {"LD_LIBRARY_PATH": ":".join(sorted(str(path) for path in root.glob("usr/lib/*-linux-gnu")))}
