"""The benchmark for a GPU machine runs on torch and transformers alone; here, as a dry run, on a CPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "bench" / "gpu.py"
ABSENT = ("fastapi", "starlette", "uvicorn", "rich", "orjson", "prometheus_client", "rerank_api")
BARE = f"""
import runpy, sys
for name in {ABSENT!r}:
    sys.modules[name] = None  # importing it fails, as where it is not installed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", BARE, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_a_dry_run_on_a_bare_machine_prints_a_line_for_each_shape() -> None:
    small = ("--layers", "1", "--pairs", "6", "--seconds", "0.01")
    done = run("--device", "cpu", "--shapes", "minilm-l6", "qwen3-0.6b", *small)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [(line[0], line[1]) for line in lines] == [("minilm-l6", "packed"), ("qwen3-0.6b", "causal")]
    for *_, share, ratio, difference, spread in lines:
        assert re.fullmatch(r"\d+%", share)
        assert float(ratio) > 0
        assert float(difference) < 1e-4 < float(spread), "the peer's scores are ours"


@pytest.mark.parametrize("arguments", [("--shapes", "bge-m4"), ("--device", "tpu")])
def test_what_it_does_not_know_is_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
