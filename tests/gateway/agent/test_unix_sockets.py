"""Paths of unix sockets: too long, left behind, taken."""

import socket
import stat

import pytest

from rerank_gateway import sockets
from rerank_gateway.errors import SocketError


def test_a_path_of_107_bytes_is_listened_on_and_one_more_is_refused_with_the_limit(socket_dir):
    room = sockets.LONGEST_PATH - len(str(socket_dir)) - 1
    sockets.listen(socket_dir / ("é" * (room // 2) + "x" * (room % 2))).close()
    with pytest.raises(SocketError, match="has 108 bytes, but the system takes 107"):
        sockets.listen(socket_dir / ("é" * (room // 2) + "x" * (room % 2 + 1)))


def test_the_socket_of_a_killed_process_is_replaced_by_one_that_only_its_owner_may_use(socket_dir):
    path = socket_dir / "s"
    sockets.listen(path).close()  # closing leaves the file, as a kill does
    assert path.exists()
    with sockets.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_socket_that_is_in_use_is_left_alone(socket_dir):
    path = socket_dir / "s"
    with sockets.listen(path), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(SocketError, match="another process listens"):
            sockets.listen(path)
        client.connect(str(path))


def test_a_file_that_is_no_socket_is_left_alone(socket_dir):
    path = socket_dir / "s"
    path.write_text("precious")
    with pytest.raises(SocketError, match="not a socket"):
        sockets.listen(path)
    assert path.read_text() == "precious"


def test_a_missing_directory_is_told(socket_dir):
    with pytest.raises(SocketError, match="No such file or directory"):
        sockets.listen(socket_dir / "no" / "s")
