"""Unix sockets that only their owner may use, on paths that a killed process may have left occupied."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from rerank_gateway.errors import SocketError

ADS = "ads.sock"
"""Of the agent: what Envoy is told. Envoy and agent find each other in one directory, by these names."""
HTTP = "http.sock"
"""Of the agent: the list of models, and the page."""
HOLD = "hold.sock"
"""Of the agent: its activator, which holds requests for models at zero."""
ADMIN = "admin.sock"
"""Of Envoy: its administration."""

LONGEST_PATH = 107
"""Bytes of a unix socket's path that Linux takes, less the closing zero (unix(7), `sun_path`)."""


def claim(path: Path) -> None:
    """Make a path free to listen on: a socket that nobody answers is removed.

    Raises SocketError if the path is too long, if somebody answers, or if it is no socket at all.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise SocketError(
            f"the path of the unix socket {path} has {length} bytes, but the system takes {LONGEST_PATH}: "
            "choose a shorter directory"
        )
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} exists and is not a socket: move it away or choose another directory")
    if _answers(path):
        raise SocketError(f"another process listens on {path}: stop it or choose another directory")
    path.unlink(missing_ok=True)


def listen(path: Path) -> socket.socket:
    """Listen on a unix socket at a path, readable and writable by the owner alone. Raises SocketError."""
    claim(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with private_sockets():
            listener.bind(os.fspath(path))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SocketError(f"cannot listen on {path}: {error}") from error
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen as `listen` does; the socket and its path are gone afterwards."""
    listener = listen(path)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def listening_on(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Listen on a TCP port of an IP address, version 4 or 6. Raises SocketError."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise SocketError(f"cannot listen on port {port} of {host}: {error}") from error
    with listener:
        listener.setblocking(False)
        yield listener


@contextlib.contextmanager
def private_sockets() -> Iterator[None]:
    """Have sockets that are bound inside made with mode 0600, with no moment in which others may connect."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True
