"""`rerank verify`: a model's scores beside what they must be, here or in a running server."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from rerank_api.verification import ScoreComparison, VerificationReport
from rerank_cli.errors import CliError
from rerank_cli.verify import manifests_of

RERANK = Path(sys.executable).with_name("rerank")
QUERY, DOCUMENTS = "what is a panda", ["a panda is a bear", "hi"]


def verify(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RERANK, "verify", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.fixture(scope="module")
def goldens(tiny_model: Path) -> dict[str, Any]:
    """What the tiny model says of two texts now, as `--write` prints it."""
    folder = tiny_model.parent
    first = write(folder, tiny_model, [{"query": QUERY, "documents": DOCUMENTS, "scores": [0, 0]}])
    shown = verify(first, "--write")
    assert shown.returncode == 0, shown.stderr
    written: dict[str, Any] = yaml.safe_load(shown.stdout)
    return written


def write(folder: Path, model: Path, goldens: list[dict[str, Any]]) -> Path:
    manifest = {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": "tiny"},
        "spec": {"source": {"file": {"path": model.name}}, "verify": {"goldens": goldens}},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(manifest), "utf-8")
    return path


def test_scores_that_were_written_down_are_found_again(tiny_model: Path, goldens: dict[str, Any]) -> None:
    [golden] = goldens["verify"]["goldens"]
    assert (golden["query"], golden["documents"]) == (QUERY, DOCUMENTS)
    shown = verify(write(tiny_model.parent, tiny_model, [golden]))
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["model", "tiny"] in rows
    assert ["family", "sequence-classification"] in rows
    found = [row for row in rows if row[:2] == ["golden", "1"]]
    assert [row[-1] for row in found] == ["ok", "ok"]
    assert shown.stdout.rstrip().splitlines()[-1].startswith("passed: 6 scores agree")


def test_a_score_that_is_off_is_shown_with_both_numbers_and_ends_with_1(
    tiny_model: Path, goldens: dict[str, Any]
) -> None:
    [golden] = goldens["verify"]["goldens"]
    right, wrong = golden["scores"][0], golden["scores"][1] + 2
    manifest = write(tiny_model.parent, tiny_model, [{**golden, "scores": [right, wrong]}])
    shown = verify(manifest)
    assert shown.returncode == 1
    assert [line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("golden 1")] == [
        "ok", "WRONG",
    ]  # fmt: skip
    assert f"{wrong:.5f}" in shown.stdout
    report = VerificationReport.model_validate_json(verify(manifest, "--json").stdout)
    assert (report.passed, report.required, report.checked) == (False, True, 6)
    assert report.scores[1].deviation == pytest.approx(2, abs=1e-4)


def test_a_folder_is_verified_without_any_manifest(tiny_model: Path) -> None:
    shown = verify(tiny_model, "--json")
    report = VerificationReport.model_validate_json(shown.stdout)
    assert shown.returncode == 0
    assert report.model == tiny_model.name
    assert report.sets == ("self-check",)


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    shown = verify(tmp_path)
    assert shown.returncode == 1
    assert shown.stdout == ""
    assert shown.stderr.startswith("rerank: The directory ")
    assert shown.stderr.count("\n") == 1


def test_an_engine_that_there_is_not_is_refused_before_anything_is_fetched() -> None:
    shown = verify("package:there-is-no-such-package", "--engine", "fast")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "rerank: The engine fast is not known: write auto, cpu, causal, packed, padded.\n"


REPORT = VerificationReport(
    passed=False,
    checked=1,
    max_deviation=6.6,
    sets=("published: a card",),
    skipped=("published golden 2: too long",),
    message="published golden 1, document 1: expected 9.69, got 3.1 (tolerance 0.01)",
    required=True,
    model="bge",
    family="sequence-classification",
    engine="cpu",
    engine_reason="bert",
    revision="953dc6f",
    dtype="float32",
    max_length=512,
    seconds=0.1,
    scores=(
        ScoreComparison(
            origin="published",
            source="a card",
            golden="published golden 1",
            query="q",
            document_index=0,
            document="line\nbreak \x1b[31m",
            expected=9.69,
            got=3.09,
            deviation=6.6,
            tolerance=0.01,
            agrees=False,
        ),
    ),
)


class Servers(BaseHTTPRequestHandler):
    """A server that verifies below `/model`, a gateway below `/gateway`, else something else."""

    def do_POST(self) -> None:  # the name that http.server calls
        if self.path == "/model/verify":
            self._answer(200, REPORT.model_dump_json(by_alias=True))
        elif self.path == "/busy/verify":
            error = {"message": "Another verification is running.", "code": "overloaded"}
            self._answer(429, json.dumps({"error": error}))
        elif self.path == "/gateway/verify":
            error = {"message": "There is nothing here.", "code": "not_found"}
            self._answer(404, json.dumps({"error": error}))
        else:
            self._answer(200, "hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Servers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_server_is_asked(url: str) -> None:
    shown = verify("--server", f"{url}/model")
    assert shown.returncode == 1
    assert "WRONG" in shown.stdout
    assert "not compared: published golden 2: too long" in shown.stdout
    assert "\x1b" not in shown.stdout
    asked = verify("--server", f"{url}/model/", "--json")
    assert VerificationReport.model_validate_json(asked.stdout) == REPORT


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        pytest.param((), 2, "Say what to verify", id="nothing"),
        pytest.param(("model", "--server", "http://127.0.0.1:9"), 2, "not both", id="a model and a server"),
        pytest.param(
            ("--server", "http://127.0.0.1:9", "--write"), 2, "--write scores a model here", id="write"
        ),
        pytest.param(("--server", "http://127.0.0.1:9"), 1, "No server answers at", id="nobody"),
        pytest.param(("--server", "nonsense"), 1, "is no address of a server", id="no URL"),
        pytest.param(
            ("--server", "URL/busy"), 1, "Another verification is running. (HTTP status 429)", id="busy"
        ),
        pytest.param(("--server", "URL/gateway"), 1, "give the address of the server itself", id="a gateway"),
        pytest.param(("--server", "URL/other"), 1, "is this a rerank server?", id="something else"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_an_exit_code(
    url: str, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    shown = verify(*(argument.replace("URL", url) for argument in arguments))
    assert shown.returncode == code
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def chosen(model: str) -> dict[str, Any]:
    [manifest] = manifests_of(model)
    return manifest.spec.source.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


@pytest.mark.parametrize(
    ("model", "source"),
    [
        pytest.param("BAAI/bge-reranker-base", {"huggingFace": {"repo": "BAAI/bge-reranker-base"}}, id="hub"),
        pytest.param(
            "BAAI/bge-reranker-base@953dc6f",
            {"huggingFace": {"repo": "BAAI/bge-reranker-base", "revision": "953dc6f"}},
            id="a commit of the hub",
        ),
        pytest.param("package:some-model", {"package": {"name": "some-model"}}, id="package"),
    ],
)
def test_a_model_is_named_as_people_name_it(model: str, source: dict[str, Any]) -> None:
    assert chosen(model) == source


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(lambda folder: folder, "holds no config.json", id="a folder of something else"),
        pytest.param(lambda folder: folder / "absent.yaml", "neither a file nor a folder", id="no such file"),
        pytest.param(lambda _: "models/absent.yaml", "neither a file nor a folder", id="no such manifest"),
        pytest.param(lambda _: "package:", "names no model", id="a package without a name"),
    ],
)
def test_what_names_no_model_is_refused(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    with pytest.raises(CliError, match=sentence):
        manifests_of(str(make(tmp_path)))
