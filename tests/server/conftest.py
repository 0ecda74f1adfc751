"""Server processes that live as long as a test."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support.servers import Server, manifest, running


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers for a manifest, options and variables, and wait for none of them."""
    with contextlib.ExitStack() as servers:
        yield lambda content, *options, **environment: servers.enter_context(
            running(tmp_path_factory.mktemp("server"), content, *options, **environment)
        )


@pytest.fixture
def start(start_server: Callable[..., Server]) -> Callable[..., Server]:
    """Start ready servers of the quickstart's model with these options and variables."""

    def ready(*options: str, **environment: str) -> Server:
        server = start_server(manifest(), *options, **environment)
        server.wait_for("ready")
        return server

    return ready
