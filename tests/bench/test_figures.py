"""What a figure says of itself, and what is written into the page."""

from dataclasses import replace

import pytest

from bench.figures import Figure, failed, read, without_bars, write
from bench.report import markdown, update

SPEED = Figure("speed", 3.6, "x", 3.5, "higher", "a peer", {"torch": "2.15"}, "a note")
ABOUT = {
    "command": "python -m bench server",
    "day": "2026-01-02",
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "instructions": ["avx2"],
        "memory_gb": 8.0,
        "system": "Linux 6",
        "python": "3.11.7",
    },
}
PAGE = "# Page\n<!-- server: measured -->\nold\n<!-- server: end -->\nrest\n"


@pytest.mark.parametrize(
    ("value", "better", "met", "word"),
    [
        pytest.param(3.5, "higher", True, "yes", id="at the bar"),
        pytest.param(3.4, "higher", False, "NO", id="below a bar from below"),
        pytest.param(3.6, "lower", False, "NO", id="above a bar from above"),
        pytest.param(None, "higher", None, "", id="not measured"),
    ],
)
def test_a_figure_says_whether_it_meets_its_bar(value, better, met, word):
    figure = replace(SPEED, value=value, better=better)
    assert (figure.met, figure.met_text) == (met, word)


def test_a_short_run_judges_nothing():
    assert [figure.met for figure in without_bars([SPEED])] == [None]


def test_a_failure_is_told_by_its_last_line():
    figure = failed("served", RuntimeError("the server did not come up:\nits reason\n"))
    assert (figure.value_text, figure.note) == ("not run", "its reason")


def test_a_failure_without_words_is_told_by_its_name():
    assert failed("served", KeyError()).note == "KeyError()"


def test_what_is_written_is_read_again(tmp_path):
    write(tmp_path / "server.json", [SPEED], ABOUT)
    assert read(tmp_path / "server.json") == ([SPEED], ABOUT)


def test_the_page_tells_command_machine_versions_and_bar():
    text = markdown([SPEED], ABOUT)
    for part in (
        "python -m bench server",
        "2 cores of A CPU (avx2)",
        "torch 2.15",
        "| speed | 3.6 x | ≥ 3.5 | yes | a peer; a note |",
    ):
        assert part in text


def test_the_report_replaces_what_stands_between_the_markers(tmp_path):
    write(tmp_path / "server.json", [SPEED], ABOUT)
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    update(tmp_path, page)
    once = page.read_text("utf-8")
    update(tmp_path, page)
    assert once.startswith("# Page\n<!-- server: measured -->\n`python -m bench server`")
    assert once.endswith("|\n<!-- server: end -->\nrest\n")
    assert page.read_text("utf-8") == once


def test_the_report_leaves_alone_what_was_not_measured(tmp_path):
    write(tmp_path / "gateway.json", [SPEED], ABOUT)
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    update(tmp_path, page)
    assert page.read_text("utf-8") == PAGE
