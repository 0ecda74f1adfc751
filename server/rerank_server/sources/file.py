"""A checkpoint in a local directory: a mounted volume, a path on the node, a folder on a laptop."""

from pathlib import Path

from rerank_server.sources.digests import content_revision
from rerank_server.sources.interface import Checkpoint, SourceError
from rerank_server.sources.selection import lack, wanted


def fetch_file(path: Path) -> Checkpoint:
    """Take the checkpoint in directory `path` as it is; its revision is a digest of its content.

    Raises `SourceError` where there is no such directory, it cannot be read, or it holds no servable
    checkpoint.
    """
    try:
        names = names_under(path)
        problem = lack(names)
        if problem:
            raise SourceError(f"The directory {path} {problem}.")
        return Checkpoint(path, content_revision(path, wanted(names)))
    except FileNotFoundError as error:
        raise SourceError(
            f"The path {error.filename} does not exist here: check the source's path, and in a cluster that "
            "the volume is mounted."
        ) from error
    except NotADirectoryError as error:
        raise SourceError(
            f"The path {path} is a file: give the directory that holds config.json and the weights."
        ) from error
    except OSError as error:
        raise SourceError(
            f"The path {error.filename or path} cannot be read ({error.strerror}): let the server's user "
            "read the directory and its files."
        ) from error


def names_under(root: Path) -> list[str]:
    """List the files of `root` and of the directories in it, as POSIX paths relative to it."""
    names: list[str] = []
    for entry in root.iterdir():
        if entry.is_dir():
            names += [f"{entry.name}/{file.name}" for file in entry.iterdir() if file.is_file()]
        elif entry.is_file():
            names.append(entry.name)
    return names
