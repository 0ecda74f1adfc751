"""`rerank key`: what the file holds, what is printed, and that the rest of a file stays as it was."""

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rerank_api.keys import digest_of, encoded
from rerank_api.manifests import read_file
from rerank_cli.errors import CliError, UsageError
from rerank_cli.main import app
from rerank_cli.up import manifests

Run = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "consumers.yaml"


@pytest.fixture
def run(file: Path) -> Run:
    """Run `rerank key …` on the file; return what it printed on standard output."""

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(
            app, ["key", *arguments, "--file", str(file)], catch_exceptions=False, env={"COLUMNS": "200"}
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    return command


def digests(file: Path, name: str = "search") -> tuple[str, ...]:
    """Return what the local runner would let this consumer in by."""
    consumers = {consumer.name: consumer for consumer in manifests.read((file,)).consumers}
    return consumers[name].digests


def test_a_key_is_printed_alone_and_the_file_holds_its_digest_only(run: Run, file: Path) -> None:
    printed = run("create", "search", "--model", "bge", "--model", "BAAI/bge")
    assert re.fullmatch(r"rk-[A-Za-z0-9]{43}\n", printed)
    key = printed.strip()
    assert key not in file.read_text()
    assert key.removeprefix("rk-") not in file.read_text()
    assert digests(file) == (digest_of(key),)
    [consumer] = manifests.read((file,)).consumers
    assert consumer.models == ("bge", "BAAI/bge")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_keys_differ(run: Run) -> None:
    assert run("create", "a") != run("create", "b")


def test_what_is_written_is_plain_manifests(run: Run, file: Path) -> None:
    run("create", "search")
    assert [document.resource.kind for document in read_file(file)] == ["Secret", "RerankConsumer"]
    assert [document.resource.metadata.name for document in read_file(file)] == ["search", "search"]


def test_a_file_that_is_there_keeps_its_text_and_its_mode(run: Run, file: Path) -> None:
    before = "# Ours.\n" + MODEL  # no end of line at its end
    file.write_text(before)
    file.chmod(0o644)
    run("create", "search")
    assert file.read_text().startswith(before + "\n---\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert len(manifests.versions(manifests.read((file,)))) == 1


def test_a_key_is_rotated_without_a_moment_in_which_none_counts(run: Run, file: Path) -> None:
    run("create", "other")
    old = run("create", "search").strip()
    others = digests(file, "other")
    new = run("rotate", "search").strip()
    assert digests(file) == (digest_of(old), digest_of(new))
    newest = run("rotate", "search").strip()
    assert digests(file) == (digest_of(old), digest_of(new), digest_of(newest))
    run("revoke", "search", "--digest", digest_of(new)[:8])
    assert digests(file) == (digest_of(old), digest_of(newest))
    run("revoke", "search", "--older")
    assert digests(file) == (digest_of(newest),)
    assert digests(file, "other") == others


def test_comments_beside_keys_stay(run: Run, file: Path) -> None:
    run("create", "search")
    text = file.read_text().replace("data:\n", "data:  # of the search team\n  # the first\n")
    file.write_text(text + "# the end\n")
    run("rotate", "search")
    run("revoke", "search", "--older")
    for comment in ("# of the search team\n", "  # the first\n", "# the end\n"):
        assert comment in file.read_text()


def test_a_revoked_consumer_takes_its_secret_along_and_nothing_else(run: Run, file: Path) -> None:
    file.write_text("# Ours.\n" + MODEL + "\n")
    run("create", "a")
    kept = file.read_text()
    run("create", "search")
    run("revoke", "search")
    assert file.read_text() == kept
    run("revoke", "a")
    assert file.read_text() == "# Ours.\n" + MODEL + "\n"


def test_the_first_of_two_consumers_is_revoked(run: Run, file: Path) -> None:
    run("create", "a")
    key = run("create", "b").strip()
    run("revoke", "a")
    assert digests(file, "b") == (digest_of(key),)


def test_a_file_with_nobody_left_goes_so_that_a_runner_sees_it(run: Run, file: Path) -> None:
    run("create", "search")
    run("revoke", "search")
    assert not file.exists()


def test_a_secret_of_two_consumers_stays_while_one_has_it(run: Run, file: Path) -> None:
    run("create", "a")
    file.write_text(file.read_text() + "---\n" + CONSUMER.format(name="b", secret="a"))
    run("revoke", "a")
    assert [document.resource.kind for document in read_file(file)] == ["Secret", "RerankConsumer"]


def test_a_consumer_gets_no_key_that_would_be_anothers(run: Run, file: Path) -> None:
    run("create", "a")
    file.write_text(file.read_text() + "---\n" + CONSUMER.format(name="b", secret="a"))
    file.write_text(file.read_text() + "---\n" + CONSUMER.format(name="c", secret="free"))
    before = file.read_text()
    with pytest.raises(CliError, match="b and a have their keys in one Secret, 'a'"):
        run("rotate", "b")
    with pytest.raises(CliError, match="'c' has its keys in a Secret 'free'"):
        run("create", "free")
    assert file.read_text() == before


def test_a_digest_that_stands_twice_is_revoked_in_both_places(run: Run, file: Path) -> None:
    old = digest_of(run("create", "search").strip())
    new = digest_of(run("rotate", "search").strip())
    file.write_text(file.read_text().replace("  key-2:", f"  twice: {encoded(old)}\n  key-2:"))
    run("revoke", "search", "--digest", old[:8])
    assert digests(file) == (new,)
    assert encoded(old) not in file.read_text()


def test_consumers_are_listed_without_their_keys(run: Run, file: Path) -> None:
    key = run("create", "search", "--model", "bge").strip()
    run("create", "all")
    run("rotate", "all")
    printed = run("list")
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}
    assert lines["search"] == ["1", digest_of(key)[:8], "bge"]
    assert (lines["all"][0], lines["all"][-1], len(lines["all"])) == ("2", "*", 4)
    assert digest_of(key)[:9] not in printed


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        pytest.param(["create", "search"], CliError, "rotate search", id="a name that is taken"),
        pytest.param(["create", "Search"], UsageError, "cannot name a consumer", id="no name"),
        pytest.param(["create", "a", "--model", "a//b"], UsageError, "no model name", id="no model name"),
        pytest.param(["create", "a", "--model", "*", "--model", "b"], UsageError, "alone", id="all and one"),
        pytest.param(["rotate", "no"], CliError, "no consumer 'no'; there is: search", id="an unknown one"),
        pytest.param(["revoke", "no"], CliError, "no consumer 'no'; there is: search", id="revoke unknown"),
        pytest.param(["revoke", "search", "--older"], UsageError, "rotate search", id="none is older"),
        pytest.param(["revoke", "search", "--digest", ""], UsageError, "No digest", id="an empty digest"),
        pytest.param(["revoke", "search", "--digest", "zz"], UsageError, "No digest", id="no such digest"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    run: Run, file: Path, arguments: list[str], error: type[Exception], words: str
) -> None:
    run("create", "search")
    before = file.read_text()
    with pytest.raises(error, match=re.escape(words)):
        run(*arguments)
    assert file.read_text() == before


def test_a_file_that_is_no_manifest_is_left_alone(run: Run, file: Path) -> None:
    file.write_text("kind: [")
    with pytest.raises(CliError, match=re.escape(str(file))):
        run("create", "search")
    assert file.read_text() == "kind: ["


def test_keys_that_a_person_wrote_in_one_line_are_left_to_that_person(run: Run, file: Path) -> None:
    run("create", "search")
    one_line = re.sub(r"data:\n  (key-1: \S+)", r"data: {\1}", file.read_text())
    file.write_text(one_line)
    with pytest.raises(CliError, match="by hand"):
        run("rotate", "search")
    assert file.read_text() == one_line


MODEL = """apiVersion: rerank.dev/v1alpha1
kind: RerankModel
metadata: {name: tiny}
spec: {source: {file: {path: model}}}"""

CONSUMER = """apiVersion: rerank.dev/v1alpha1
kind: RerankConsumer
metadata: {{name: {name}}}
spec: {{keySecret: {{name: {secret}}}, models: ['*']}}
"""
