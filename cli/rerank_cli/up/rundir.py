"""The run directory: sockets, the state file and the servers' manifests of one `rerank up`.

A file lock says whether its runner lives, so that a later one can clear what a killed one left.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rerank_cli.errors import StartError

LOCK = "lock"
PREFIX = "rerank-up-"
LONGEST_SOCKET_PATH = 107
"""Bytes that the kernel takes as a unix socket's path (unix(7))."""
LONGEST_SOCKET_NAME = "admin.sock"


@contextlib.contextmanager
def run_directory(chosen: Path | None) -> Iterator[Path]:
    """Hold a run directory of one's own, and remove it at the end.

    Without `chosen`, a fresh one beneath the temporary directory. Raises `StartError` where `chosen` is in
    use, holds files of others, or is too long for sockets.
    """
    if chosen is None:
        _sweep(_temporary_root())
    directory = _fresh() if chosen is None else _prepared(chosen)
    lock = _locked(directory)
    if lock is None:
        raise StartError(
            f"{directory} is the run directory of another `rerank up`: choose another --run-dir."
        )
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _fresh() -> Path:
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=_temporary_root()))


def _temporary_root() -> Path:
    root = Path(tempfile.gettempdir())
    return root if _fits(root / f"{PREFIX}12345678") else Path("/tmp")  # noqa: S108  # mkdtemp makes it private


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH


def _prepared(chosen: Path) -> Path:
    directory = chosen.absolute()
    if not _fits(directory):
        most = LONGEST_SOCKET_PATH - len(LONGEST_SOCKET_NAME) - 1
        raise StartError(f"--run-dir {directory} is too long for the sockets in it: at most {most} bytes.")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = [entry.name for entry in directory.iterdir()]
    except OSError as error:
        raise StartError(f"--run-dir {directory} cannot be made: {error.strerror}.") from error
    if entries and LOCK not in entries:
        raise StartError(
            f"--run-dir {directory} holds other files, and is removed at the end: choose another."
        )
    return directory


def _locked(directory: Path) -> int | None:
    """Lock `directory` for the life of this process; None where another process has it."""
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _sweep(root: Path) -> None:
    """Remove the directories of runners that were killed."""
    for directory in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (
                directory.is_symlink()
                or directory.stat().st_uid != os.getuid()
                or not (directory / LOCK).exists()
            ):
                continue
            lock = _locked(directory)
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)
