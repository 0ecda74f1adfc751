"""Consumers and their Secrets as the local runner reads them: who is let in, and what is wrong, and where."""

import base64
import hashlib
from pathlib import Path

import pytest

from rerank_cli.errors import StartError
from rerank_cli.up import command, manifests
from rerank_cli.up.listen import claim

DIGEST = hashlib.sha256(b"a-key").hexdigest()
OTHER = hashlib.sha256(b"another-key").hexdigest()
CONSUMER = """apiVersion: rerank.dev/v1alpha1
kind: RerankConsumer
metadata: {name: search}
spec: {keySecret: {name: keys}, models: [bge]}
"""


def secret(values: str, name: str = "keys") -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{values}\n"


@pytest.fixture
def folder(tmp_path: Path, write_manifest) -> Path:
    write_manifest(tmp_path, "tiny", source={"file": {"path": "model"}})
    return tmp_path


def read(folder: Path, *documents: str, before: manifests.Read | None = None) -> manifests.Read:
    (folder / "consumers.yaml").write_text("---\n".join(documents), encoding="utf-8")
    return manifests.read((folder,), before)


@pytest.mark.parametrize(
    ("values", "digests"),
    [
        pytest.param("stringData: {key: a-key}", (DIGEST,), id="a key"),
        pytest.param("stringData:\n  key: |\n    a-key\n", (DIGEST,), id="a key with a line's end"),
        pytest.param(f"stringData: {{key: 'sha256:{DIGEST}'}}", (DIGEST,), id="a digest"),
        pytest.param(f"stringData: {{key: 'sha256:{DIGEST.upper()}'}}", (DIGEST,), id="in upper case"),
        pytest.param(f"data: {{key: {base64.b64encode(b'a-key').decode()}}}", (DIGEST,), id="base64"),
        pytest.param(
            f"data: {{key: {base64.b64encode(f'sha256:{DIGEST}'.encode()).decode()}}}",
            (DIGEST,),
            id="a digest in base64",
        ),
        pytest.param(f"stringData: {{a: a-key, b: 'sha256:{OTHER}'}}", (DIGEST, OTHER), id="two"),
        pytest.param(f"stringData: {{a: a-key, b: 'sha256:{DIGEST}'}}", (DIGEST,), id="one twice"),
        pytest.param("data: {a: bm9uZQ==}\nstringData: {a: a-key}", (DIGEST,), id="stringData wins"),
        pytest.param("type: Opaque\nimmutable: true\nstringData: {a: a-key}", (DIGEST,), id="its own fields"),
    ],
)
def test_keys_and_digests_of_a_secret_let_its_consumer_in(folder: Path, values: str, digests) -> None:
    found = read(folder, CONSUMER, secret(values))
    assert found.problems + found.unusable == ()
    [consumer] = found.consumers
    assert (consumer.name, consumer.models, consumer.digests) == ("search", ("bge",), digests)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param("stringData: {}", ":9: metadata.name: the Secret 'keys' holds no key", id="no value"),
        pytest.param("", ":9: metadata.name: the Secret 'keys' holds no key", id="no values at all"),
        pytest.param("stringData: {k: ''}", ":10: stringData.k: is empty", id="an empty one"),
        pytest.param("stringData: {k: 'sha256:abc'}", ":10: stringData.k: is no digest", id="a short digest"),
        pytest.param("stringData: {k: 'sha256:'}", ":10: stringData.k: is no digest", id="no digest"),
        pytest.param("stringData: {k: 12}", ":10: stringData.k: is no text", id="a number"),
        pytest.param("stringData: {k: a b}", ":10: stringData.k: cannot be a key", id="a space"),
        pytest.param("stringData: {k: ключ}", ":10: stringData.k: cannot be a key", id="not ASCII"),
        pytest.param(f"stringData: {{k: {'x' * 513}}}", ":10: stringData.k: is longer than 512", id="long"),
        pytest.param("data: {k: a-key}", ":10: data.k: is not base64", id="not base64"),
        pytest.param("data: {k.yaml: '*'}", ':10: data["k.yaml"]: is not base64', id="a field with a dot"),
        pytest.param("stringData: text", ":10: stringData: is no mapping", id="no mapping"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_with_its_line_and_without_itself(
    folder: Path, values: str, complaint: str
) -> None:
    found = read(folder, CONSUMER, secret(values))
    [problem] = found.problems + found.unusable
    assert complaint in str(problem)
    with pytest.raises(StartError, match=r"consumers\.yaml"):
        command.up([folder], "127.0.0.1:0", None, None)


def test_a_good_key_counts_beside_a_bad_one(folder: Path) -> None:
    found = read(folder, CONSUMER, secret("stringData: {good: a-key, bad: ''}"))
    assert found.consumers[0].digests == (DIGEST,)
    assert len(found.unusable) == 1


def test_a_secret_that_is_not_there_is_named_with_the_consumer_s_line(folder: Path) -> None:
    found = read(folder, CONSUMER)
    [problem] = found.problems + found.unusable
    assert "consumers.yaml:4: spec.keySecret.name: there is no Secret 'keys'" in str(problem)
    assert found.consumers[0].digests == ()


def test_a_key_of_two_consumers_is_the_first_s_and_is_told(folder: Path) -> None:
    second = CONSUMER.replace("name: search", "name: b").replace("name: keys", "name: more")
    found = read(
        folder, CONSUMER, secret("stringData: {k: a-key}"), second, secret("stringData: {k: a-key}", "more")
    )
    assert "one of the consumer 'search' too" in found.complaint()
    assert {one.name: one.digests for one in found.consumers} == {"search": (DIGEST,), "b": ()}


def test_no_key_is_kept_of_what_was_read(folder: Path) -> None:
    found = read(folder, CONSUMER, secret("stringData: {k: a-key}\ndata: {j: YW5vdGhlci1rZXk=}"))
    assert set(found.consumers[0].digests) == {DIGEST, OTHER}
    assert "a-key" not in repr(found)
    assert "YW5vdGhlci1rZXk" not in repr(found)


def test_a_secret_that_no_consumer_has_may_hold_anything(folder: Path) -> None:
    found = read(folder, secret("stringData: {token: two words}\ndata: {x: '%'}"))
    assert found.problems + found.unusable == ()
    assert not found.consumers


def test_a_consumer_may_be_called_like_a_model_and_like_its_secret(folder: Path) -> None:
    consumer = CONSUMER.replace("name: search", "name: tiny").replace("name: keys", "name: tiny")
    assert read(folder, consumer, secret("stringData: {k: a-key}", "tiny")).complaint() == ""


@pytest.mark.parametrize(
    ("consumer", "complaint"),
    [
        pytest.param(CONSUMER.replace("search", "'Se arch'"), "cannot name a consumer", id="no name"),
        pytest.param(CONSUMER.replace("v1alpha1", "v1"), "apiVersion: ", id="another version"),
    ],
)
def test_what_is_not_acted_on_is_refused(folder: Path, consumer: str, complaint: str) -> None:
    assert complaint in read(folder, consumer, secret("stringData: {k: a-key}")).complaint()


def test_other_kinds_of_kubernetes_are_refused_as_before(folder: Path) -> None:
    found = read(folder, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    assert "'v1' is not known here" in found.complaint()


def test_a_secret_that_goes_while_the_runner_runs_takes_its_keys_along(folder: Path) -> None:
    before = read(folder, CONSUMER, secret("stringData: {k: a-key}"))
    assert before.consumers[0].digests == (DIGEST,)
    after = read(folder, CONSUMER, before=before)
    assert after.consumers[0].digests == ()
    assert after.consumers


def test_with_a_consumer_the_gateway_may_be_reached_from_elsewhere() -> None:
    for host in ("0.0.0.0", ""):
        where = claim(f"{host}:0", asks_for_keys=True)
        assert (where.address, where.url) == ("0.0.0.0", f"http://127.0.0.1:{where.port}")


def test_a_request_to_try_needs_a_key_to_try_it_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(folder, CONSUMER, secret("stringData: {k: a-key}"))
    request = tmp_path / "requests" / "request.json"
    request.parent.mkdir()
    request.write_text('{"model": "tiny"}')
    monkeypatch.delenv("RERANK_API_KEY", raising=False)
    with pytest.raises(StartError, match="RERANK_API_KEY"):
        command.up([folder], "127.0.0.1:0", None, request)
