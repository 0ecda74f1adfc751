"""The page of Envoy's surprises names tests, and each of them is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line.strip("|").split(" | ")
    for line in (ROOT / "docs" / "envoy.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| **")
]


@pytest.mark.parametrize(
    "row", ROWS, ids=[" ".join(re.findall(r"\w+", surprise)[:8]) for surprise, *_ in ROWS]
)
def test_each_surprise_of_envoys_names_tests_that_are_there(row: list[str]) -> None:
    _surprise, _instead, tests = row
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named
    for file, name in named:
        module = ast.parse((ROOT / "tests" / "gateway" / file).read_text(encoding="utf-8"))
        functions = {
            each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"docs/envoy.md names {name}, which is not in {file}"


def test_the_page_has_the_surprises() -> None:
    assert len(ROWS) >= 12
