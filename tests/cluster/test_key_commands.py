"""`rerank key … --kubernetes` before a real API server: what it makes of objects, what it leaves alone."""

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_api.keys import digest_of, encoded
from rerank_cli import keys
from rerank_cli.errors import CliError
from rerank_cli.key_cluster import KeyCluster
from rerank_cli.key_objects import new_secret
from rerank_cli.key_places import Place
from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.api import KubernetesApi
from rerank_gateway.kubernetes.source import KubernetesSource
from rerank_gateway.models import Consumer
from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver_objects import allow

RERANK = Path(sys.executable).with_name("rerank")
NAMESPACE = "rag"
CONSUMERS = f"/apis/rerank.dev/v1alpha1/namespaces/{NAMESPACE}/rerankconsumers"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"

KEEPER_RULES = [
    {
        "apiGroups": ["rerank.dev"],
        "resources": ["rerankconsumers"],
        "verbs": ["list", "create", "delete"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
]
"""What docs/keys.md says that the commands need, and no more."""
READER, WRITER = "may-list", "may-make-secrets"
READER_RULES = [{"apiGroups": ["rerank.dev"], "resources": ["rerankconsumers"], "verbs": ["list"]}]
WRITER_RULES = [*READER_RULES, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]}]
KEEPER, STRANGER = "may-all", "may-nothing"

PATIENCE_S = 600.0
"""Enough for commands in a row on a slow and busy machine."""

Rerank = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows no RerankConsumers."""
    server = ApiServer(tmp_path_factory.mktemp("bare"))
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the custom resources, a namespace, and users with some rights there."""
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    server.tokens |= {user: user for user in (KEEPER, READER, WRITER, STRANGER)}
    try:
        server.start()
        server.install()
        server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}).raise_for_status()
        for user, rules in ((KEEPER, KEEPER_RULES), (READER, READER_RULES), (WRITER, WRITER_RULES)):
            allow(server, user, rules, NAMESPACE)
        yield server
    finally:
        server.end()


@pytest.fixture
def server(api_server: ApiServer) -> ApiServer:
    """The API server without any consumer or Secret."""
    for path in (CONSUMERS, SECRETS):
        api_server.ask("DELETE", path).raise_for_status()
    return api_server


def command(
    server: ApiServer, *words: str, user: str = KEEPER, namespace: str = NAMESPACE
) -> "subprocess.CompletedProcess[str]":
    where = ("--kubernetes", "--namespace", namespace, "--kubeconfig", str(server.kubeconfig(user)))
    return subprocess.run(
        [RERANK, "key", *words, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={"COLUMNS": "200"},
    )


@pytest.fixture
def run(server: ApiServer) -> Callable[..., str]:
    """Run a command that succeeds, with the rights of docs/keys.md; return its standard output."""

    def successful(*words: str) -> str:
        done = command(server, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return successful


@pytest.fixture
def fail(server: ApiServer) -> Callable[..., str]:
    """Run a command that fails; return its one sentence. Nothing is printed on standard output."""

    def failing(*words: str, **more: Any) -> str:
        done = command(more.pop("before", server), *words, **more)
        assert done.returncode == 1, done
        assert done.stdout == ""
        assert done.stderr.startswith("rerank: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    return failing


@pytest.fixture
def kept(server: ApiServer) -> Iterator[KeyCluster]:
    """The namespace as a command sees it, between whose steps a test may put another hand's."""
    place = Place(kubernetes=True, namespace=NAMESPACE, kubeconfig=server.kubeconfig(KEEPER))
    with place.keys() as kept:
        assert isinstance(kept, KeyCluster)
        yield kept


def secret(server: ApiServer, name: str = "search") -> dict[str, Any] | None:
    answer = server.ask("GET", f"{SECRETS}/{name}")
    return answer.json() if answer.status_code == 200 else None


def digests(server: ApiServer, name: str = "search") -> tuple[str, ...]:
    """Return the digests that the gateway would take from a Secret."""
    found = secret(server, name)
    read = None if found is None else objects.key_secret(found)
    return () if read is None else read.digests


def consumers(server: ApiServer) -> dict[str, objects.Consumer | None]:
    items = server.ask("GET", CONSUMERS).json()["items"]
    return {raw["metadata"]["name"]: objects.consumer(raw) for raw in items}


def add(server: ApiServer, path: str, manifest: dict[str, Any]) -> None:
    server.ask("POST", path, manifest).raise_for_status()


def consumer(name: str, keys_in: str) -> dict[str, Any]:
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankConsumer",
        "metadata": {"name": name},
        "spec": {"keySecret": {"name": keys_in}, "models": ["*"]},
    }


def touch(server: ApiServer, path: str) -> None:
    """Change an object, as another hand does."""
    patch = {"metadata": {"annotations": {"touched": "yes"}}}
    server.ask("PATCH", path, patch, "merge-patch+json").raise_for_status()


def test_a_key_is_printed_alone_and_counts(server: ApiServer, run: Callable[..., str]) -> None:
    printed = run("create", "search", "--model", "bge", "--model", "BAAI/bge")
    assert re.fullmatch(r"rk-[A-Za-z0-9]{43}\n", printed)
    assert digests(server) == (digest_of(printed.strip()),)
    assert consumers(server) == {"search": objects.Consumer((NAMESPACE, "search"), ("bge", "BAAI/bge"))}
    made = secret(server)
    assert made is not None
    assert made["type"] == "Opaque"
    assert printed.strip() not in str(made)


def test_a_key_is_rotated_without_a_moment_in_which_none_counts(
    server: ApiServer, run: Callable[..., str]
) -> None:
    old = digest_of(run("create", "search").strip())
    new = digest_of(run("rotate", "search").strip())
    assert digests(server) == (old, new)
    newest = digest_of(run("rotate", "search").strip())
    assert run("revoke", "search", "--digest", new[:10]) == ""
    assert digests(server) == (old, newest)
    run("revoke", "search", "--older")
    assert digests(server) == (newest,)
    listed = run("list").splitlines()
    assert [line.split() for line in listed[1:]] == [["search", "1", newest[:8], "*"]]
    run("revoke", "search")
    assert (consumers(server), secret(server)) == ({}, None)


def test_the_gateways_agent_is_told_of_each_step(server: ApiServer, run: Callable[..., str]) -> None:
    def key(*words: str) -> str:
        return digest_of(run(*words).strip())

    async def follow() -> None:
        source = KubernetesSource(KubernetesApi(server.kubeconfig()), consumers_in=NAMESPACE)
        async with contextlib.aclosing(source.views()) as views, asyncio.timeout(PATIENCE_S):

            async def told(*wanted: Consumer) -> None:
                while (await anext(views)).consumers != wanted:
                    pass

            await told()
            old = await asyncio.to_thread(key, "create", "search", "--model", "bge")
            await told(Consumer("rag/search", (old,), ("bge",)))
            new = await asyncio.to_thread(key, "rotate", "search")
            await told(Consumer("rag/search", (old, new), ("bge",)))
            await asyncio.to_thread(run, "revoke", "search", "--older")
            await told(Consumer("rag/search", (new,), ("bge",)))
            await asyncio.to_thread(run, "revoke", "search")
            await told()

    asyncio.run(follow())


def test_what_the_file_commands_wrote_is_taken_over_after_kubectl_apply(
    server: ApiServer, run: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "consumers.yaml"
    made = subprocess.run(
        [RERANK, "key", "create", "search", "--file", file], check=True, capture_output=True
    )
    key = made.stdout.decode().strip()
    for path, manifest in zip((SECRETS, CONSUMERS), yaml.safe_load_all(file.read_text()), strict=True):
        add(server, path, manifest)
    new = run("rotate", "search").strip()
    assert digests(server) == (digest_of(key), digest_of(new))
    run("revoke", "search")
    assert (consumers(server), secret(server)) == ({}, None)


def test_a_consumer_whose_secret_is_missing_gets_one_with_its_next_key(
    server: ApiServer, run: Callable[..., str]
) -> None:
    add(server, CONSUMERS, consumer("search", "keys-of-search"))
    assert run("list").splitlines()[1].split() == ["search", "0", "*"]
    key = run("rotate", "search").strip()
    assert digests(server, "keys-of-search") == (digest_of(key),)


def test_a_secret_that_is_there_is_never_overwritten(server: ApiServer, fail: Callable[..., str]) -> None:
    add(server, SECRETS, {"metadata": {"name": "search"}, "data": {"password": "c2VjcmV0"}})
    before = secret(server)
    assert "Secret 'search' already" in fail("create", "search")
    assert secret(server) == before
    assert consumers(server) == {}


def test_a_consumer_that_is_there_is_never_overwritten(
    server: ApiServer, run: Callable[..., str], fail: Callable[..., str]
) -> None:
    run("create", "search", "--model", "bge")
    before = (consumers(server), secret(server))
    assert "rerank key rotate search --kubernetes" in fail("create", "search")
    assert (consumers(server), secret(server)) == before


def test_a_consumer_that_another_made_in_between_gets_no_key(server: ApiServer, kept: KeyCluster) -> None:
    class Slow(KeyCluster):
        """Another hand is quicker between the look and the deed."""

        def consumers(self) -> Any:
            seen = super().consumers()
            add(server, CONSUMERS, consumer("search", "search"))
            return seen

    slow = Slow(kept._api, kept.options)
    with pytest.raises(CliError, match="RerankConsumer 'search' already"):
        keys.create("search", (), slow)
    assert secret(server) is None


def test_a_secret_whose_consumer_may_not_be_made_does_not_stay_unsaid(
    server: ApiServer, fail: Callable[..., str]
) -> None:
    said = fail("create", "search", user=WRITER)
    assert "cannot create resource" in said
    assert "The Secret 'search' was made before that and stays" in said
    assert consumers(server) == {}


def test_a_secret_is_deleted_again_where_its_consumer_is_refused(
    server: ApiServer, fail: Callable[..., str]
) -> None:
    quota = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    hard = {"count/rerankconsumers.rerank.dev": "0"}
    add(server, quota, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    # No controller counts here; the status is what admission goes by.
    status = {"status": {"hard": hard, "used": {"count/rerankconsumers.rerank.dev": "0"}}}
    server.ask("PATCH", f"{quota}/none/status", status, "merge-patch+json").raise_for_status()

    def refuses() -> bool:  # admission hears of quotas a moment later
        answer = server.ask("POST", f"{CONSUMERS}?dryRun=All", consumer("another", "another"))
        return "exceeded quota" in answer.text

    try:
        server.wait(refuses)
        said = fail("create", "search")
    finally:
        server.ask("DELETE", f"{quota}/none").raise_for_status()
        server.wait(lambda: not refuses())
    assert "exceeded quota" in said
    assert secret(server) is None


def test_keys_are_left_alone_where_another_hand_was_quicker(server: ApiServer, kept: KeyCluster) -> None:
    add(server, SECRETS, new_secret("search", digest_of("a")))
    add(server, CONSUMERS, consumer("search", "search"))
    [search] = kept.consumers()
    read = kept.held(search)
    touch(server, f"{SECRETS}/search")
    before = secret(server)
    with pytest.raises(CliError, match="changed by somebody else just now"):
        kept.add_key(search, "key-2", digest_of("b"))
    with pytest.raises(CliError, match="changed by somebody else just now"):
        kept.remove_keys(search, read.keys)
    assert secret(server) == before
    server.ask("DELETE", f"{SECRETS}/search").raise_for_status()
    add(server, SECRETS, new_secret("search", digest_of("c")))  # another of the same name
    before = secret(server)
    with pytest.raises(CliError, match="changed by somebody else just now"):
        kept.add_key(search, "key-2", digest_of("b"))
    assert secret(server) == before


def test_a_secret_that_another_made_in_between_gets_no_key(server: ApiServer, kept: KeyCluster) -> None:
    add(server, CONSUMERS, consumer("search", "search"))
    [search] = kept.consumers()
    kept.held(search)
    add(server, SECRETS, new_secret("search", digest_of("a")))
    with pytest.raises(CliError, match="run the command again"):
        kept.add_key(search, "key-1", digest_of("b"))
    assert digests(server) == (digest_of("a"),)


def test_a_step_that_nobody_answered_is_told_as_one_that_may_have_been_done(
    server: ApiServer, kept: KeyCluster
) -> None:
    add(server, SECRETS, new_secret("search", digest_of("a")))
    add(server, CONSUMERS, consumer("search", "search"))
    [search] = kept.consumers()
    kept.held(search)
    server.stop()
    try:
        with pytest.raises(CliError, match="is not known: `rerank key list --kubernetes") as caught:
            kept.add_key(search, "key-2", digest_of("b"))
    finally:
        server.start()
    assert f"The API server {server.url} does not answer" in str(caught.value)


def test_a_consumer_stays_where_another_hand_was_quicker(server: ApiServer, kept: KeyCluster) -> None:
    add(server, SECRETS, new_secret("search", digest_of("a")))
    add(server, CONSUMERS, consumer("search", "search"))
    [search] = kept.consumers()
    touch(server, f"{CONSUMERS}/search")
    with pytest.raises(CliError, match=r"RerankConsumer 'search' .* was changed by somebody else"):
        kept.remove_consumer(search, ())
    assert list(consumers(server)) == ["search"]
    assert digests(server) == (digest_of("a"),)


def test_a_secret_that_changes_while_its_consumer_is_revoked_stays_and_is_named(
    server: ApiServer, kept: KeyCluster
) -> None:
    add(server, SECRETS, new_secret("search", digest_of("a")))
    add(server, CONSUMERS, consumer("search", "search"))
    [search] = kept.consumers()
    kept.held(search)
    touch(server, f"{SECRETS}/search")
    with pytest.raises(CliError, match=r"search is gone .* its Secret stays") as caught:
        kept.remove_consumer(search, ())
    assert f"kubectl delete -n {NAMESPACE} secret/search" in str(caught.value)
    assert consumers(server) == {}
    assert digests(server) == (digest_of("a"),)


def test_a_secret_that_others_made_or_share_stays_and_that_is_said(
    server: ApiServer, run: Callable[..., str]
) -> None:
    data = {"key-1": encoded(digest_of("a"))}
    add(server, SECRETS, {"metadata": {"name": "ours"}, "data": data})
    add(server, SECRETS, new_secret("shared", digest_of("b")))
    for name, keys_in in (("a", "ours"), ("b", "shared"), ("c", "shared")):
        add(server, CONSUMERS, consumer(name, keys_in))
    assert "kubectl delete -n rag secret/ours" in command(server, "revoke", "a").stderr
    assert "c has its keys there too" in command(server, "revoke", "b").stderr
    assert list(consumers(server)) == ["c"]
    assert (digests(server, "ours"), digests(server, "shared")) == ((digest_of("a"),), (digest_of("b"),))
    run("revoke", "c")
    assert secret(server, "shared") is None


def test_a_key_that_would_not_count_is_not_printed(server: ApiServer, fail: Callable[..., str]) -> None:
    add(server, SECRETS, {"metadata": {"name": "login"}, "type": "example.com/login", "data": {}})
    frozen = new_secret("frozen", digest_of("a")) | {"immutable": True}
    add(server, SECRETS, frozen)
    for name in ("login", "frozen"):
        add(server, CONSUMERS, consumer(name, name))
    assert "of type example.com/login" in fail("rotate", "login")
    assert "immutable" in fail("rotate", "frozen")


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        pytest.param(["rotate", "no"], {}, "namespace rag of https", id="no such consumer"),
        pytest.param(["list"], {"user": STRANGER}, "docs/keys.md", id="no right at all"),
        pytest.param(["create", "a"], {"user": READER}, 'cannot create resource "secrets"', id="no right"),
        pytest.param(["list"], {"user": "nobody"}, "log in to the cluster again", id="an unknown user"),
        pytest.param(["create", "a"], {"user": "the-admin", "namespace": "no"}, "--namespace", id="nowhere"),
    ],
)
def test_what_the_api_server_refuses_is_one_sentence(
    fail: Callable[..., str], words: list[str], more: dict[str, str], said: str
) -> None:
    assert said in fail(*words, **more)


def test_a_cluster_without_the_chart_is_told(bare: ApiServer, fail: Callable[..., str]) -> None:
    for words in (["list"], ["create", "search"]):
        said = fail(*words, before=bare, user="the-admin", namespace="default")
        assert "knows no RerankConsumers: install the chart" in said


def test_a_server_whose_certificate_is_not_trusted_is_told(server: ApiServer, tmp_path: Path) -> None:
    told = yaml.safe_load(server.kubeconfig(KEEPER).read_text())
    del told["clusters"][0]["cluster"]["certificate-authority"]
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(told))
    done = subprocess.run(
        [RERANK, "key", "list", "--kubernetes", "--kubeconfig", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert "certificate verify failed" in done.stderr
