import logging
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

from rerank_server.sources.interface import Progress, SourceError

SERVED = {
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "modules.json",
    "1_Pooling/config.json",
    "model.safetensors",
}


def names_in(path):
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


def test_a_branch_is_resolved_to_its_commit_and_only_what_is_served_is_fetched(make_repo, fetch, tmp_path):
    repo = make_repo()
    checkpoint = fetch(revision="main")
    assert checkpoint.revision == repo.commit
    assert checkpoint.path == tmp_path / "cache/models--acme--reranker/snapshots" / repo.commit
    assert names_in(checkpoint.path) == SERVED
    for name in SERVED:
        assert (checkpoint.path / name).read_bytes() == repo.files[name]


def test_progress_covers_all_files_and_never_goes_back(make_repo, fetch, weights, model_files):
    repo = make_repo(files=model_files | {"model.safetensors": weights(14_000_000)})
    fetch()
    total = sum(len(repo.files[name]) for name in SERVED)
    assert {seen.total for seen in fetch.seen} == {total}
    assert all(before.done < after.done for before, after in pairwise(fetch.seen))
    assert fetch.seen[-1] == Progress(total, total)
    within_the_weights = [seen for seen in fetch.seen if 10_000_000 < seen.done < total]
    assert within_the_weights


def test_a_second_fetch_of_a_branch_downloads_nothing(make_repo, fetch, hub):
    make_repo()
    first = fetch()
    hub.seen.clear()
    fetch.seen.clear()
    assert fetch() == first
    assert [seen.path for seen in hub.seen] == ["/api/models/acme/reranker/revision/main"]
    assert fetch.seen[-1].done == fetch.seen[-1].total > 0


def test_a_commit_that_is_whole_in_the_cache_needs_no_hub(make_repo, fetch, hub, caplog):
    repo = make_repo()
    first = fetch()
    hub.close()
    with caplog.at_level(logging.INFO, "rerank_server"):
        assert fetch(revision=repo.commit) == first
    assert f"acme/reranker at commit {repo.commit} is known; the hub is not asked for it" in caplog.text


def test_a_branch_stays_at_its_last_commit_while_the_hub_is_down(make_repo, fetch, hub, caplog):
    repo = make_repo()
    first = fetch(revision="main")
    hub.close()
    assert fetch(revision="main") == first
    assert "cannot be reached" in caplog.text
    assert f"Serving acme/reranker at commit {repo.commit} from the cache. Pin this commit" in caplog.text


def test_two_servers_can_fill_one_cache_at_once(make_repo, fetch, hub):
    repo = make_repo()
    with ThreadPoolExecutor(2) as servers:
        first, second = servers.map(lambda _: fetch(), range(2))
    assert first == second
    assert names_in(first.path) == SERVED
    assert {(first.path / name).read_bytes() == repo.files[name] for name in SERVED} == {True}


def test_the_hubs_own_tools_find_no_fault_with_the_cache(make_repo, fetch, tmp_path):
    repo = make_repo()
    fetch()
    scanned = scan_cache_dir(tmp_path / "cache")
    assert not scanned.warnings
    [found] = scanned.repos
    assert (found.repo_id, [revision.commit_hash for revision in found.revisions]) == (
        "acme/reranker",
        [repo.commit],
    )


def test_a_cache_that_another_tool_filled_serves_while_the_hub_is_down(make_repo, fetch, hub, tmp_path):
    repo = make_repo()
    snapshot_download("acme/reranker", cache_dir=tmp_path / "cache", endpoint=hub.url, token=False)
    hub.close()
    checkpoint = fetch(revision=repo.commit)
    assert checkpoint.revision == repo.commit
    assert (checkpoint.path / "model.safetensors").read_bytes() == repo.files["model.safetensors"]
    assert fetch(revision="main") == checkpoint


def test_a_cache_without_the_weights_does_not_serve_while_the_hub_is_down(make_repo, fetch, hub, tmp_path):
    repo = make_repo()
    snapshot_download(
        "acme/reranker",
        cache_dir=tmp_path / "cache",
        endpoint=hub.url,
        token=False,
        allow_patterns=["*.json"],
    )
    hub.close()
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        fetch(revision=repo.commit)
    assert caught.value.transient


def test_a_file_that_vanished_from_the_cache_is_fetched_again(make_repo, fetch, hub):
    repo = make_repo()
    checkpoint = fetch(revision=repo.commit)
    (checkpoint.path / "vocab.txt").unlink()
    hub.seen.clear()
    fetch(revision=repo.commit)
    assert (checkpoint.path / "vocab.txt").read_bytes() == repo.files["vocab.txt"]
    assert {seen.path.rpartition("/")[2] for seen in hub.seen} <= {"vocab.txt"}


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(make_repo, fetch, caplog):
    repo = make_repo()
    checkpoint = fetch(revision=repo.commit)
    damaged = checkpoint.path / "model.safetensors"
    damaged.write_bytes(b"\0" * len(repo.files["model.safetensors"]))
    fetch(revision=repo.commit)
    assert damaged.read_bytes() == repo.files["model.safetensors"]
    assert "damaged" in caplog.text


def test_a_sharded_model_comes_with_its_index_and_all_its_shards(make_repo, fetch, weights, model_files):
    del model_files["model.safetensors"]
    shards = {
        "model.safetensors.index.json": b'{"weight_map": {}}',
        "model-00001-of-00002.safetensors": weights(30_000),
        "model-00002-of-00002.safetensors": weights(20_000),
    }
    make_repo(files=model_files | shards | {"consolidated.safetensors": weights(50_000)})
    assert names_in(fetch().path) == SERVED - {"model.safetensors"} | shards.keys()


def test_a_mirror_that_lists_only_names_is_served_from(make_repo, fetch):
    repo = make_repo(names_only=True)
    checkpoint = fetch()
    assert (checkpoint.path / "model.safetensors").read_bytes() == repo.files["model.safetensors"]
    assert fetch.seen[-1] == Progress(sum(len(repo.files[name]) for name in SERVED), None)


def run_in_a_fresh_process(hub, cache, **environment):
    """Fetch `acme/reranker` at `main` as a server process does, told by the environment alone."""
    script = """
        import sys
        from pathlib import Path
        from rerank_api.source import HuggingFaceSource, Source
        from rerank_server import sources

        source = Source(hugging_face=HuggingFaceSource(repo="acme/reranker"))
        print(sources.fetch(source, cache_dir=Path(sys.argv[1]), token=None, report=lambda _: None).revision)
    """
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(cache)],
        env=os.environ | {"HF_ENDPOINT": hub.url} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_process_finds_its_hub_through_the_environment(make_repo, hub, tmp_path):
    repo = make_repo()
    first = run_in_a_fresh_process(hub, tmp_path, HF_TOKEN="hf_left_on_this_machine")
    assert (first.stdout, first.stderr) == (f"{repo.commit}\n", "")
    assert all("authorization" not in seen.headers for seen in hub.seen)
    agents = {seen.headers["user-agent"] for seen in hub.seen}
    assert not any("torch" in agent for agent in agents)
    hub.seen.clear()
    offline = run_in_a_fresh_process(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.stdout == f"{repo.commit}\n"
    assert not hub.seen


def test_a_process_that_may_not_ask_says_what_is_missing(hub, tmp_path):
    offline = run_in_a_fresh_process(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.returncode != 0
    assert "HF_HUB_OFFLINE forbids to ask the hub" in offline.stderr
    assert not hub.seen
