"""What `rerank up` refuses before it starts anything, in a sentence."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerank_cli.errors import CliError, StartError, UsageError
from rerank_cli.up import command
from rerank_cli.up.listen import claim, split
from rerank_cli.up.rundir import LOCK, PREFIX, run_directory


@pytest.fixture
def manifest(tmp_path: Path, write_manifest: Any) -> Path:
    path: Path = write_manifest(tmp_path, "tiny", source={"file": {"path": "model"}})
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_in_use_is_named(manifest: Path, taken_port: int) -> None:
    with pytest.raises(StartError, match=f"port {taken_port} on 127.0.0.1 is in use"):
        command.up([manifest], f"127.0.0.1:{taken_port}", None, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "", "192.0.2.7", "[2001:db8::1]", "[::ffff:192.0.2.7]"])
def test_an_address_off_loopback_is_refused_with_the_reason(manifest: Path, host: str) -> None:
    with pytest.raises(
        StartError, match=r"none of the manifests says who may call: .* listen on 127\.0\.0\.1"
    ):
        command.up([manifest], f"{host}:0", None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "[::ffff:127.0.0.1]"])
def test_loopback_is_taken_with_a_port_that_is_free(host: str) -> None:
    where = claim(f"{host}:0")
    assert where.port > 0
    assert re.fullmatch(r"http://\S+:\d+", where.url)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("8080", id="a port alone"),
        pytest.param("127.0.0.1", id="no port"),
        pytest.param("127.0.0.1:http", id="a name for a port"),
        pytest.param("127.0.0.1:65536", id="no such port"),
        pytest.param("127.0.0.1:-1", id="a negative port"),
        pytest.param("::1:8080", id="IPv6 without brackets"),
    ],
)
def test_what_is_no_host_and_port_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        split(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("{}", r"request\.json: give an object", id="no model"),
        pytest.param("[", r"request\.json is not JSON", id="not JSON"),
        pytest.param(
            '{"model": "other"}', r"no manifest has the model `other`; there is: tiny", id="unknown model"
        ),
        pytest.param(None, r"request\.json: No such file", id="no file"),
    ],
)
def test_a_request_to_try_that_cannot_work_is_refused(
    manifest: Path, tmp_path: Path, text: str | None, complaint: str
) -> None:
    request = tmp_path / "requests" / "request.json"
    request.parent.mkdir()
    if text is not None:
        request.write_text(text, encoding="utf-8")
    with pytest.raises(StartError, match=complaint):
        command.up([manifest], "127.0.0.1:0", None, request)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        pytest.param("weight: 1001", r"^\S+bad\.yaml:7: spec\.weight: This is out of", id="weight"),
        pytest.param(
            "autoscaling: {maxReplicas: 2}", r"spec\.autoscaling: .*spec\.replicas", id="autoscaling"
        ),
        pytest.param("profile: gpu", r"spec\.profile: the local runner does not act", id="profile"),
        pytest.param("ingress: {host: a.example.com}", r"spec\.ingress: the local runner", id="ingress"),
        pytest.param("cache: {hostPath: /c}", r"spec\.cache: .*HF_HOME", id="cache"),
        pytest.param("colour: red", r"^\S+bad\.yaml:7: spec\.colour: ", id="a field that there is not"),
    ],
)
def test_a_field_that_the_runner_does_not_act_on_is_refused(
    tmp_path: Path, spec: str, complaint: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "apiVersion: rerank.dev/v1alpha1\nkind: RerankModel\nmetadata:\n  name: bad\nspec:\n"
        f"  source: {{file: {{path: model}}}}\n  {spec}\n",
        encoding="utf-8",
    )
    with pytest.raises(StartError, match=re.compile(complaint, re.MULTILINE)):
        command.up([file], "127.0.0.1:0", None, None)


def test_a_token_secret_is_refused_with_the_variable_to_use(tmp_path: Path, write_manifest: Any) -> None:
    hub = {"repo": "a/b", "tokenSecret": {"name": "hf", "key": "token"}}
    file = write_manifest(tmp_path, "gated", source={"huggingFace": hub})
    with pytest.raises(StartError, match=r"spec\.source\.huggingFace\.tokenSecret: .*HF_TOKEN"):
        command.up([file], "127.0.0.1:0", None, None)


def test_two_manifests_of_one_name_are_refused_with_both_places(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(manifest.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(
        StartError, match=r"tiny\.yaml:\d+: metadata\.name: 'tiny' names another model in .*other"
    ):
        command.up([tmp_path], "127.0.0.1:0", None, None)


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="there is no manifest of a RerankModel here"):
        command.up([tmp_path], "127.0.0.1:0", None, None)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"no\.yaml: There is no such file"):
        command.up([tmp_path / "no.yaml"], "127.0.0.1:0", None, None)


def test_parts_that_are_not_installed_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command.PARTS, "server", ("a_module_that_nobody_has",))
    with pytest.raises(StartError, match=re.escape("pip install '.[server]'")):
        command.require_parts()


def test_two_runners_share_a_chosen_directory_without_meeting(tmp_path: Path) -> None:
    with run_directory(tmp_path) as one, run_directory(tmp_path) as other:
        assert one != other
        assert {one.parent, other.parent} == {tmp_path}
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_in_a_chosen_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / "thesis.txt").write_text("all of it")
    with run_directory(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    assert (tmp_path / LOCK).exists()


def test_a_run_directory_that_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="too long for the sockets"), run_directory(tmp_path / ("x" * 90)):
        pass


def test_a_run_directory_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match=r"cannot be made in .*Not a directory"),
        run_directory(tmp_path / "file/x"),
    ):
        pass


def test_what_a_killed_runner_left_in_a_chosen_directory_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / LOCK).touch()
    (left / "state.json").touch()
    with run_directory(tmp_path):
        assert not left.exists()


def test_every_error_of_the_command_line_has_an_exit_code() -> None:
    codes = {error: error.exit_code for error in (CliError, StartError, UsageError)}
    assert codes == {CliError: 1, StartError: 1, UsageError: 2}
