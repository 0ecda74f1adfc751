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
from rerank_gateway.sockets import ADMIN, ADS, HOLD, HTTP, LONGEST_PATH

LOCK = "lock"
PREFIX = "rerank-up-"
LONGEST_SOCKET_NAME = max((ADMIN, ADS, HOLD, HTTP), key=len)


@contextlib.contextmanager
def run_directory(chosen: Path | None) -> Iterator[Path]:
    """Hold a fresh directory beneath `chosen`, or beneath the temporary directory, and remove it at the end.

    Nothing else in `chosen` is touched but what killed runners left there. Raises `StartError` where it
    cannot be written, or is too long for sockets.
    """
    root = _temporary_root() if chosen is None else chosen.absolute()
    if not _fits(root / f"{PREFIX}12345678"):
        most = LONGEST_PATH - len(f"/{PREFIX}12345678/{LONGEST_SOCKET_NAME}")
        raise StartError(f"--run-dir {root} is too long for the sockets in it: at most {most} bytes.")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(root)
        directory, lock = _fresh(root)
    except OSError as error:
        raise StartError(
            f"The run directory cannot be made in {root}: {error.strerror}: name another with --run-dir."
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _fresh(root: Path) -> tuple[Path, int]:
    """Make a locked directory. Between making and locking, another runner may take it for a dead one's."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        lock = _locked(directory)
        if lock is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (directory / LOCK).stat()):
                return directory, lock
        os.close(lock)


def _temporary_root() -> Path:
    root = Path(tempfile.gettempdir())
    return root if _fits(root / f"{PREFIX}12345678") else Path("/tmp")  # noqa: S108  # mkdtemp makes it private


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / LONGEST_SOCKET_NAME)) <= LONGEST_PATH


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
