"""A hub on loopback, and what is fetched from it."""

import os
import threading
from collections.abc import Iterator

import numpy
import pytest
from huggingface_hub import close_session
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from safetensors.numpy import save

from rerank_server.sources.hub import fetch_hub
from rerank_server.sources.patience import Patience
from tests.support.hub import GIVEN_TOKEN, Hub, Repo


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A running hub without repositories."""
    hub = Hub()
    hub.before_close = close_session  # huggingface_hub keeps connections, which keep handler threads
    yield hub
    hub.close()


@pytest.fixture
def fetch(hub, tmp_path):
    """Fetch from the hub into the test's cache.

    `fetch.seen` keeps the progress, and `fetch.arrived` is set once huggingface_hub has its first piece of a
    large file.
    """

    def report(progress):
        run.seen.append(progress)
        if progress.done > DOWNLOAD_CHUNK_SIZE:
            run.arrived.set()

    def run(repo="acme/reranker", revision=None, token=None, cache_dir=tmp_path / "cache"):
        return fetch_hub(repo, revision, token, cache_dir, report, endpoint=hub.url, patience=run.patience)

    run.seen = []
    run.arrived = threading.Event()
    run.patience = Patience(pauses=(0.01, 0.01, 0.01), longest=2)
    return run


@pytest.fixture
def weights():
    """Make the content of a safetensors file of about so many bytes."""

    def make(size: int) -> bytes:
        return save({"weight": numpy.frombuffer(os.urandom(size), dtype=numpy.uint8)})

    return make


@pytest.fixture
def model_files(weights):
    """The files of a small sentence-embedding model, beside what a server has no use for."""
    return {
        "README.md": b"# A model\n",
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "config.json": b'{"model_type": "bert"}',
        "tokenizer.json": b'{"model": {}}' * 100,
        "tokenizer_config.json": b"{}",
        "vocab.txt": b"[PAD]\n[CLS]\n",
        "modules.json": b"[]",
        "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
        "model.safetensors": weights(50_000),
        "pytorch_model.bin": b"a pickle",
        "onnx/model.onnx": b"a graph",
        "openvino/openvino_model.xml": b"<xml/>",
        "model.gguf": b"GGUF",
        "diagram.png": b"PNG",
    }


@pytest.fixture
def make_repo(hub, model_files):
    """Put a repository on the hub; by default the small model as `acme/reranker`."""

    def make(name: str = "acme/reranker", files: dict[str, bytes] | None = None, **traits: object) -> Repo:
        hub.repos[name] = Repo(model_files if files is None else files, **traits)
        return hub.repos[name]

    return make


@pytest.fixture
def given_token() -> str:
    """The one token that the hub knows."""
    return GIVEN_TOKEN
