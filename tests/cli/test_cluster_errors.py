"""What is said when an API server refuses, or nobody answers, or no cluster is known."""

import json
import re
import socket
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rerank_cli.cluster_errors import refused
from rerank_cli.errors import CliError, ClusterError, UsageError
from rerank_cli.key_places import Place
from rerank_cli.kubernetes_api import KubernetesApi
from rerank_cli.main import app


def status(message: str, reason: str = "", kind: str | None = None) -> bytes:
    return json.dumps(
        {"kind": "Status", "message": message, "reason": reason, "details": {"kind": kind}}
    ).encode()


FORBIDDEN = 'secrets "x" is forbidden: User "eve" cannot get resource "secrets" in the namespace "rerank"'
QUOTA = 'secrets "x" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=1'


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        pytest.param(401, status("Unauthorized"), ["credentials", "log in"], id="unknown"),
        pytest.param(403, status(FORBIDDEN), ["eve", "Role", "docs/keys.md"], id="no right"),
        pytest.param(403, status(QUOTA), ["exceeded quota"], id="a quota"),
        pytest.param(404, b"404 page not found\n", ["no RerankConsumers", "install the chart"], id="no CRD"),
        pytest.param(
            404,
            status('namespaces "x" not found', "NotFound", "namespaces"),
            ['namespaces "x" not found', "--namespace"],
            id="no namespace",
        ),
        pytest.param(422, status("spec.models[0]:\n is not"), ["(422)", "models[0]: is not."], id="invalid"),
        pytest.param(503, status("etcd is away"), ["503", "etcd is away.", "Try again"], id="unable"),
        pytest.param(502, b"<html>Bad Gateway</html>", ["502", "no reason given"], id="something between"),
    ],
)
def test_a_refusal_is_a_sentence_on_what_where_and_what_to_do(
    code: int, body: bytes, words: list[str]
) -> None:
    error = refused("The API server https://k", code, body)
    assert str(error).startswith("The API server https://k ")
    assert "\n" not in str(error)
    for each in words:
        assert each in str(error)
    assert error.status == code


def test_a_quota_is_not_told_as_a_lack_of_rights() -> None:
    assert "Role" not in str(refused("k", 403, status(QUOTA)))


def test_the_reason_tells_a_name_that_is_taken_from_other_conflicts() -> None:
    assert refused("k", 409, status("there", "AlreadyExists")).reason == "AlreadyExists"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b'{"kind": "Pod"}', b'{"kind": "Status"}', b"\xff"]
)
def test_any_body_is_read(body: bytes) -> None:
    assert refused("k", 400, body).status == 400


def kubeconfig(path: Path, server: str, **context: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
                "current-context": "here",
            }
        )
    )
    return path


def test_nobody_at_the_address_is_said_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{bound.getsockname()[1]}"
        with KubernetesApi(kubeconfig(tmp_path / "k", url)) as api, pytest.raises(ClusterError) as caught:
            api.request("GET", "/")
    assert str(caught.value).startswith(f"The API server {url} does not answer: Connection refused. Check")
    assert caught.value.status is None


def test_a_host_that_no_name_server_knows_is_said(tmp_path: Path) -> None:
    url = "https://nowhere.invalid"
    with KubernetesApi(kubeconfig(tmp_path / "k", url)) as api, pytest.raises(ClusterError) as caught:
        api.request("GET", "/")
    assert re.fullmatch(rf"The API server {url} does not answer: [^.:<>]+\. Check .*", str(caught.value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "No cluster is known: there is no", id="no file"),
        pytest.param("", "cannot be used", id="an empty file"),
        pytest.param("clusters: [", "cannot be used", id="no YAML"),
        pytest.param("- a", "cannot be used", id="no mapping"),
        pytest.param("{contexts: [], clusters: []}", "current-context", id="no current context"),
        pytest.param("current-context: x", "name x", id="a context that is not there"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_said(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CliError, match=re.escape(words)) as caught:
        KubernetesApi(file)
    assert str(file) in str(caught.value)


def test_the_namespace_is_the_contexts_unless_given(tmp_path: Path) -> None:
    plain, own = (
        kubeconfig(tmp_path / "a", "https://k"),
        kubeconfig(tmp_path / "b", "https://k", namespace="rag"),
    )
    for file, given, namespace in ((plain, None, "default"), (own, None, "rag"), (own, "web", "web")):
        with KubernetesApi(file, namespace=given) as api:
            assert api.namespace == namespace


def test_kubeconfigs_of_the_environment_are_joined_as_kubectl_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(tmp_path / "b", "https://k", namespace="rag")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{tmp_path / 'b'}")
    with KubernetesApi() as api:
        assert api.namespace == "rag"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        pytest.param(Place(namespace="x"), "--namespace says where", id="a namespace and no cluster"),
        pytest.param(Place(context="x"), "--context says where", id="a context and no cluster"),
        pytest.param(Place(kubeconfig=Path("x")), "--kubeconfig says where", id="a kubeconfig, no cluster"),
        pytest.param(Place(file=Path("x"), kubernetes=True), "not both", id="a file and a cluster"),
        pytest.param(Place(kubernetes=True, namespace="../x"), "no name of a namespace", id="no namespace"),
        pytest.param(Place(kubernetes=True, namespace=""), "no name of a namespace", id="an empty one"),
    ],
)
def test_options_that_do_not_go_together_are_refused(place: Place, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)), place.keys():
        pass


def test_without_kubernetes_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rerank_cli.kubernetes_api")
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(CliError, match=re.escape("pip install '.[operator]'")):
        CliRunner().invoke(app, ["key", "list", "--kubernetes"], catch_exceptions=False)
