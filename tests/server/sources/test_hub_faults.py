import hashlib
import logging
import shutil
import socket
from itertools import pairwise

import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE

from rerank_server.sources.hub import fetch_hub
from rerank_server.sources.interface import SourceError
from rerank_server.sources.patience import Patience


@pytest.mark.parametrize(
    "reset", [pytest.param(False, id="closed early"), pytest.param(True, id="reset by the peer")]
)
def test_a_download_that_is_cut_goes_on_where_it_was(make_repo, fetch, hub, weights, model_files, reset):
    repo = make_repo(files=model_files | {"model.safetensors": weights(14_000_000)})
    hub.fault("GET", "/model.safetensors", cut_after=11_500_000, cut_when=fetch.arrived, reset=reset)
    checkpoint = fetch()
    size = len(repo.files["model.safetensors"])
    first, second = [seen for seen in hub.gets("/model.safetensors") if seen.path.startswith("/cdn/")]
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={DOWNLOAD_CHUNK_SIZE}-"
    assert first.sent + second.sent < 2 * size
    assert (checkpoint.path / "model.safetensors").read_bytes() == repo.files["model.safetensors"]
    assert all(before.done < after.done for before, after in pairwise(fetch.seen))
    assert fetch.seen[-1].done == fetch.seen[-1].total


@pytest.mark.parametrize(
    ("suffix", "status"),
    [
        pytest.param("/revision/main", 500, id="listing"),
        pytest.param("/cdn/acme/reranker/-/model.safetensors", 503, id="weights"),
        pytest.param("/config.json", 502, id="small file"),
    ],
)
def test_a_fault_of_the_hub_that_passes_is_survived(make_repo, fetch, hub, suffix, status):
    repo = make_repo()
    hub.fault("GET", suffix, status=status, times=2)
    assert fetch().revision == repo.commit
    assert hub.faults[0].times == 0


def test_a_fault_of_the_hub_that_lasts_is_told_as_transient(make_repo, fetch, hub):
    make_repo()
    hub.fault("GET", "/revision/main", status=503, times=100)
    with pytest.raises(SourceError, match="answered 503 for acme/reranker at revision main") as caught:
        fetch()
    assert caught.value.transient
    assert len(hub.seen) == 1 + len(fetch.patience.pauses)


def test_the_hub_is_given_the_time_that_it_asks_for(make_repo, fetch, hub, caplog):
    repo = make_repo()
    hub.fault("GET", "/revision/main", status=429, headers={"Retry-After": "1"})
    assert fetch().revision == repo.commit
    assert "asked too often from here (429)" in caplog.text
    assert "Trying again in 1 s." in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Retry-After": "300"}, id="Retry-After"),
        pytest.param({"RateLimit": '"api";r=0;t=300'}, id="RateLimit"),
    ],
)
def test_a_long_wait_that_the_hub_asks_for_is_told_instead(make_repo, fetch, hub, headers):
    make_repo()
    hub.fault("GET", "/revision/main", status=429, headers=headers)
    with pytest.raises(SourceError, match="a token of one's own has a higher limit") as caught:
        fetch()
    assert caught.value.transient
    assert caught.value.retry_after == 300
    assert len(hub.seen) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_arrives_damaged_once_is_healed(make_repo, fetch, hub, name, caplog):
    repo = make_repo()
    hub.fault("GET", f"/{name}", corrupt=True)
    checkpoint = fetch()
    assert (checkpoint.path / name).read_bytes() == repo.files[name]
    assert "arrived damaged" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_always_arrives_damaged_is_refused_and_not_kept(make_repo, fetch, hub, tmp_path, name):
    repo = make_repo()
    hub.fault("GET", f"/{name}", corrupt=True, times=100)
    content = repo.files[name]
    bad = bytes([content[0] ^ 1]) + content[1:]
    with pytest.raises(SourceError, match="arrives damaged") as caught:
        fetch()
    message = str(caught.value)
    if name == "model.safetensors":
        assert hashlib.sha256(content).hexdigest() in message
        assert hashlib.sha256(bad).hexdigest() in message
    assert f"The file {name} of acme/reranker at commit {repo.commit[:12]}" in message
    kept = [file.read_bytes() for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert bad not in kept
    assert not (tmp_path / "cache/models--acme--reranker/snapshots" / repo.commit / name).is_symlink()


def test_a_bad_file_outside_the_cache_is_left_alone(make_repo, fetch, tmp_path):
    repo = make_repo()
    checkpoint = fetch(revision=repo.commit)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"not what the hub has")
    (checkpoint.path / "model.safetensors").unlink()
    (checkpoint.path / "model.safetensors").symlink_to(mine)
    fetch(revision=repo.commit)
    assert mine.read_bytes() == b"not what the hub has"
    assert (checkpoint.path / "model.safetensors").read_bytes() == repo.files["model.safetensors"]


def test_a_cache_that_cannot_be_made_is_told(make_repo, fetch, tmp_path):
    make_repo()
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="Not a directory"):
        fetch(cache_dir=tmp_path / "file")


def test_a_given_token_goes_to_the_hub_and_not_to_its_cdn(make_repo, fetch, hub, given_token):
    repo = make_repo(private=True)
    assert fetch(token=f"{given_token}\n").revision == repo.commit
    for seen in hub.seen:
        sent = seen.headers.get("authorization")
        assert sent == (None if seen.path.startswith("/cdn/") else f"Bearer {given_token}")


@pytest.mark.parametrize(
    ("traits", "repo", "revision", "token", "words"),
    [
        pytest.param(
            {"private": True},
            "acme/reranker",
            None,
            None,
            ("has no public repository acme/reranker and no token was given", "tokenSecret", "HF_TOKEN"),
            id="private, no token",
        ),
        pytest.param(
            {"private": True},
            "acme/reranker",
            None,
            "hf_wrong",
            ("refused the given token for acme/reranker", "tokenSecret"),
            id="private, wrong token",
        ),
        pytest.param(
            {"gated": True},
            "acme/reranker",
            None,
            None,
            ("acme/reranker", "is gated and no token was given", "ask for access at http://"),
            id="gated, no token",
        ),
        pytest.param(
            {"gated": True},
            "acme/reranker",
            None,
            "given",
            ("is gated and the given token does not open it",),
            id="gated, token without access",
        ),
        pytest.param(
            {},
            "acme/typo",
            None,
            None,
            ("has no public repository acme/typo", "check the spelling"),
            id="no such repository, no token",
        ),
        pytest.param(
            {},
            "acme/typo",
            None,
            "given",
            ("shows no repository acme/typo to the given token",),
            id="no such repository, token",
        ),
        pytest.param(
            {},
            "acme/reranker",
            "v9",
            None,
            ("acme/reranker", "has no revision `v9`", "a branch, a tag or a commit"),
            id="no such revision",
        ),
        pytest.param(
            {}, "not a name", None, None, ("`not a name` is not a repository's name",), id="not a name"
        ),
    ],
)
def test_what_a_user_must_change_is_said_at_once(
    make_repo, fetch, hub, caplog, given_token, traits, repo, revision, token, words
):
    make_repo(**traits)
    token = given_token if token == "given" else token
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError) as caught:
        fetch(repo, revision, token)
    assert not caught.value.transient
    for word in words:
        assert word in str(caught.value)
    if token:
        assert token not in str(caught.value) + caplog.text
    assert len([seen for seen in hub.seen if seen.path.startswith("/api/")]) <= 1


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        pytest.param(
            "model.safetensors",
            ("holds no safetensors weights (found model.gguf, pytorch_model.bin)", "runs code"),
            id="pickle only",
        ),
        pytest.param("config.json", ("holds no config.json",), id="no config"),
    ],
)
def test_a_repository_that_cannot_be_served_is_refused_before_any_download(
    make_repo, fetch, hub, model_files, remove, words
):
    del model_files[remove]
    repo = make_repo()
    with pytest.raises(SourceError) as caught:
        fetch()
    assert f"The repository acme/reranker at commit {repo.commit[:12]}" in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert len(hub.seen) == 1


def test_a_model_that_the_disk_cannot_hold_is_refused_before_any_download(make_repo, fetch, hub, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    make_repo(claimed_sizes={"model.safetensors": 2 * free})
    with pytest.raises(SourceError, match=r"needs [\d.]+ GB more in the cache .*, which has [\d.]+ GB free"):
        fetch()
    assert len(hub.seen) == 1


def test_an_unreachable_hub_is_told_with_its_address(fetch, hub):
    hub.close()
    with pytest.raises(SourceError) as caught:
        fetch()
    assert caught.value.transient
    assert f"The hub {hub.url} cannot be reached" in str(caught.value)
    assert "HF_ENDPOINT" in str(caught.value)


def test_secrets_in_the_hubs_address_are_not_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        fetch_hub(
            "acme/reranker",
            None,
            None,
            tmp_path,
            lambda _: None,
            endpoint=f"http://user:password@127.0.0.1:{port}",
            patience=Patience(pauses=()),
        )
    assert f"http://127.0.0.1:{port} " in str(caught.value)
    assert "password" not in str(caught.value)


def test_a_token_that_cannot_be_sent_is_refused_without_repeating_it(fetch, hub):
    with pytest.raises(SourceError, match="store the token alone") as caught:
        fetch(token="hf_first\nhf_second")
    assert "hf_first" not in str(caught.value)
    assert not hub.seen
