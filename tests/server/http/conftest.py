"""A real server process with the quickstart's real model, shared by the tests of the HTTP side."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.servers import Server, manifest, running


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., dict[str, Any]]:
    """Return the builder of manifests."""
    return manifest


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The quickstart's model, ready, under two names."""
    names = ["all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"]
    content = manifest("all-minilm-l6-v2", names=names)
    with running(tmp_path_factory.mktemp("minilm"), content) as server:
        server.wait_for("ready")
        yield server
