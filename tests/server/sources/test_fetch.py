from pathlib import Path

import pytest

from rerank_api.source import (
    ClaimSource,
    FileSource,
    HostPathSource,
    OciSource,
    PackageSource,
    S3Source,
    Source,
)
from rerank_server import sources
from rerank_server.errors import ServerError


@pytest.fixture
def fetch():
    """Fetch a source that needs no hub."""

    def run(source):
        return sources.fetch(source, cache_dir=None, token=None, report=lambda _: None)

    return run


@pytest.fixture
def model(tmp_path):
    """The smallest directory that is a checkpoint."""
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("kind", ["file", "host_path"])
def test_a_path_is_taken_as_it_is(fetch, model, kind):
    source = {"file": FileSource, "host_path": HostPathSource}[kind](path=str(model))
    assert fetch(Source(**{kind: source})).path == model


@pytest.mark.parametrize(
    ("inner", "path"), [(None, sources.CLAIM_MOUNT), ("models/bge", sources.CLAIM_MOUNT / "models/bge")]
)
def test_a_claim_is_looked_for_where_pods_mount_it(fetch, inner, path):
    if Path(path).exists():
        pytest.skip(f"{path} exists on this machine")
    with pytest.raises(sources.SourceError, match=f"{path} does not exist here"):
        fetch(Source(pvc=ClaimSource(claim="models", path=inner)))


def test_a_package_is_looked_for_among_the_installed_ones(fetch):
    with pytest.raises(sources.SourceError, match="pip install no-such-model"):
        fetch(Source(package=PackageSource(name="no-such-model")))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Source(s3=S3Source(uri="s3://models/bge")), "s3"),
        (Source(oci=OciSource(image="registry.example.com/models/bge:1")), "oci"),
    ],
)
def test_a_source_that_the_server_does_not_act_on_is_refused_by_its_name(fetch, source, name):
    with pytest.raises(ServerError, match=f"does not act on the source `{name}` yet"):
        fetch(source)
