"""The file that the chart writes: read whole, or refused with every value that is wrong."""

from pathlib import Path

import pytest

from rerank_operator.errors import SettingsError
from rerank_operator.settings import Settings, parse, read
from tests.operator.given import SETTINGS_TEXT

ALL = """\
namespaces: [search, ml]
server:
  image: example.com/server:1
  imagePullPolicy: Always
  imagePullSecrets: [{name: registry}]
  resources: {limits: {memory: 4Gi}, requests: {cpu: 1}}
  env: [{name: HF_ENDPOINT, value: https://hub.example.com}]
gateway: {namespace: rerank, service: rerank-gateway, port: 8080, url: https://rerank.example.com}
ingress:
  kind: HTTPRoute
  className: public
  annotations: {example.com/note: kept}
  tlsSecret: wildcard
  parentRefs: [{name: public, namespace: gateways, sectionName: https, port: 443}]
profiles:
  nvidia-h100:
    resources: {limits: {nvidia.com/gpu: 1}}
    template:
      image: example.com/server:1-cuda
      nodeSelector: {gpu: h100}
      volumes: [{name: scratch, emptyDir: {}}]
"""


def test_a_file_with_everything_in_it_is_read() -> None:
    found = parse(ALL)
    assert found.namespaces == ("search", "ml")
    assert found.server.image_pull_secrets[0].name == "registry"
    assert found.gateway.port == 8080
    assert found.ingress.parent_refs[0].section_name == "https"
    assert found.profiles["nvidia-h100"].template.node_selector == {"gpu": "h100"}
    assert Settings.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_a_file_with_little_in_it_means_all_namespaces_and_ingresses() -> None:
    found = parse(SETTINGS_TEXT)
    assert (found.namespaces, found.profiles, found.gateway.port) == ((), {}, 80)
    assert (found.ingress.kind, found.server.image_pull_policy) == ("Ingress", "IfNotPresent")


@pytest.mark.parametrize(
    ("given", "instead", "sentence"),
    [
        pytest.param("image:", "imag:", "server.imag: Extra inputs are not permitted", id="a misspelt field"),
        pytest.param("image:", "imag:", "server.image: Field required", id="a field that is missing then"),
        pytest.param(
            "imagePullPolicy:",
            "image_pull_policy:",
            "server.image_pull_policy: Extra",
            id="Python's own name",
        ),
        pytest.param(
            "port: 8080", "port: http", "gateway.port: Input should be a valid integer", id="a word"
        ),
        pytest.param(
            "port: 8080",
            "port: 80800",
            "gateway.port: Input should be less than or equal to 65535",
            id="a port that none is",
        ),
        pytest.param(
            "[search, ml]", "search", "namespaces: Input should be a valid tuple", id="one in place of a list"
        ),
        pytest.param(
            "kind: HTTPRoute",
            "kind: Route",
            "ingress.kind: Input should be 'Ingress' or 'HTTPRoute'",
            id="a kind that does not exist",
        ),
        pytest.param(
            "memory: 4Gi", "memory: 4 GB", "server.resources.limits.memory", id="an amount that is none"
        ),
        pytest.param(
            "nodeSelector:",
            "nodeSelectors:",
            "profiles.nvidia-h100.template.nodeSelectors: Extra",
            id="deep in",
        ),
        pytest.param(ALL, "- a\n- list\n", "the file: Input should be", id="something else"),
        pytest.param(ALL, "", "the file: Input should be", id="nothing"),
        pytest.param("namespaces:", "namespaces: [", "no YAML: while parsing", id="no YAML"),
        pytest.param("namespaces:", "\tnamespaces:", "no YAML: while scanning", id="a tab"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wrong(given: str, instead: str, sentence: str) -> None:
    assert given in ALL
    with pytest.raises(SettingsError) as caught:
        parse(ALL.replace(given, instead, 1))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse(ALL.replace("image:", "imag:", 1).replace("8080", "http"))
    told = str(caught.value).split("; ")
    assert [sentence.split(":")[0] for sentence in told] == ["server.image", "server.imag", "gateway.port"]


def test_a_file_is_named_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS_TEXT)
    assert read(path) == parse(SETTINGS_TEXT)
    path.write_text("namespaces: 3")
    with pytest.raises(SettingsError, match=r"^the settings .*settings\.yaml are wrong: namespaces: "):
        read(path)


@pytest.mark.parametrize(
    "content", [pytest.param(None, id="no file"), pytest.param(b"\xff\xfe", id="no UTF-8")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^the settings .*settings\.yaml cannot be read: "):
        read(path)
