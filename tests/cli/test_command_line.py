"""The `rerank` command as a user types it, and `rerank query` against a server that really answers."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rerank_cli.client import Listed
from rerank_cli.errors import AnswerError
from rerank_cli.query import only_model
from rerank_cli.ranking import bar, lengths

RERANK = Path(sys.executable).with_name("rerank")


def rerank(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([RERANK, *arguments], input=stdin, capture_output=True, text=True, check=False)


class WordCount(BaseHTTPRequestHandler):
    """A server of the same API, which scores a document by how often it has the query."""

    def do_GET(self) -> None:  # the name that http.server calls
        models = [
            {"id": "counter", "state": "Ready", "message": "Ready"},
            {"id": "asleep", "state": "Idle", "message": "no replicas"},
        ]
        self._answer(200, {"object": "list", "data": models})

    def do_POST(self) -> None:  # the name that http.server calls
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] != "counter":
            self._answer(404, {"error": {"message": "There is no such model.", "code": "model_not_found"}})
            return
        scored = sorted(
            ((float(text.count(body["query"])), index, text) for index, text in enumerate(body["documents"])),
            reverse=True,
        )[: body.get("top_n")]
        results = [
            {"index": index, "relevance_score": score, "document": {"text": text}}
            for score, index, text in scored
        ]
        self._answer(200, {"model": "counter", "results": results, "usage": {"total_tokens": 42}})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: object) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), WordCount) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_help_imports_nothing_heavy() -> None:
    modules = "import sys; sys.argv[1:] = ['--help']\nfrom rerank_cli.main import main\n"
    heavy = ("torch", "transformers", "fastapi", "grpc", "httpx", "pydantic")
    report = f"try:\n main()\nexcept SystemExit: pass\nprint([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", modules + report], capture_output=True, text=True, check=True
    )
    assert "Run rerankers" in shown.stdout
    assert shown.stdout.rstrip().endswith("[]")


def test_the_version_is_printed() -> None:
    assert rerank("version").stdout.startswith("rerank 0.")


def test_a_ranking_is_shown_best_first_with_what_it_cost(url: str) -> None:
    shown = rerank("query", "panda", "hi", "panda panda", "a panda", "--url", url)
    assert shown.returncode == 0
    assert shown.stderr == ""
    rows = [line.split() for line in shown.stdout.splitlines()[1:4]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("1", "2.0000", "panda"), ("2", "1.0000", "panda"), ("3", "0.0000", "hi"),
    ]  # fmt: skip
    assert "counter: 42 tokens" in shown.stdout


def test_documents_come_from_standard_input_one_a_line(url: str) -> None:
    shown = rerank("query", "panda", "-", "--url", url, "--json", "--top-n", "1", stdin="hi\n\na panda\n")
    assert json.loads(shown.stdout)["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "a panda"}}
    ]


def test_an_error_of_the_api_is_shown_as_its_message(url: str) -> None:
    shown = rerank("query", "panda", "hi", "--model", "other", "--url", url)
    assert shown.returncode == 1
    assert shown.stderr == "rerank: There is no such model. (HTTP status 404)\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        pytest.param(
            ("query", "q", "d", "--url", "http://127.0.0.1:9"), 1, "No gateway answers at", id="nobody"
        ),
        pytest.param(("query", "q", "d", "--url", "nonsense"), 1, "is no address of a gateway", id="no URL"),
        pytest.param(("query", "q", "-"), 2, "There are no documents", id="no documents"),
        pytest.param(("query", "q", "-", "-"), 2, "read once", id="standard input twice"),
        pytest.param(("up",), 2, "Missing argument", id="no manifest"),
        pytest.param(("up", "no-such.yaml"), 1, "no-such.yaml: There is no such file", id="no such manifest"),
        pytest.param(("up", "no-such.yaml", "--listen", "8080"), 2, "write HOST:PORT", id="no host"),
        pytest.param(("crds",), 2, "--output DIR", id="crds without a folder"),
        pytest.param(("crds", "--check", "no-such-folder"), 1, "make generate", id="crds that are not there"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_an_exit_code(
    arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    shown = rerank(*arguments)
    assert shown.returncode == code
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def test_written_crds_are_those_that_are_checked(tmp_path: Path) -> None:
    assert rerank("crds", "--output", str(tmp_path)).returncode == 0
    assert len(list(tmp_path.glob("*.yaml"))) == 2
    assert rerank("crds", "--check", str(tmp_path)).returncode == 0
    next(tmp_path.glob("*.yaml")).write_text("kind: Other\n", encoding="utf-8")
    assert rerank("crds", "--check", str(tmp_path)).returncode == 1


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        pytest.param((), "has no models", id="none"),
        pytest.param((Listed("a", "Failed", "no files"),), "a: Failed: no files", id="none ready"),
        pytest.param(
            (Listed("b", "Ready", ""), Listed("a", "Ready", "")), "--model: a, b", id="more than one ready"
        ),
    ],
)
def test_a_model_is_not_guessed(listed: tuple[Listed, ...], complaint: str) -> None:
    with pytest.raises(AnswerError, match=complaint):
        only_model(listed)


@pytest.mark.parametrize(
    ("scores", "shares"),
    [
        pytest.param((0.9, 0.2), (0.9, 0.2), id="shares stay what they are"),
        pytest.param((8.0, 3.0, -2.0), (1.0, 0.5, 0.0), id="logits span their range"),
        pytest.param((-3.0, -3.0), (1.0, 1.0), id="equal logits"),
        pytest.param((), (), id="no documents"),
    ],
)
def test_bars_show_scores_of_either_kind(scores: tuple[float, ...], shares: tuple[float, ...]) -> None:
    assert lengths(scores) == shares


def test_a_bar_is_as_long_as_its_share() -> None:
    assert bar(1.0, 4) == "████"
    assert bar(0.0, 4) == ""
    assert bar(0.5, 4) == "██"
    assert bar(2.0, 4) == "████"
