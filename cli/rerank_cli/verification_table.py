"""A verification as a table for people."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rerank_api.verification import ScoreComparison, VerificationReport
from rerank_cli.ranking import one_line

LONGEST_TEXT = 60
"""Characters that are shown of a query or a document."""

_COLUMNS: dict[str, dict[str, Any]] = {
    "GOLDEN": {"no_wrap": True},
    "QUERY": {"overflow": "fold"},
    "DOCUMENT": {"overflow": "fold"},
    "EXPECTED": {"justify": "right", "no_wrap": True},
    "GOT": {"justify": "right", "no_wrap": True},
    "DEVIATION": {"justify": "right", "no_wrap": True},
    "TOLERANCE": {"justify": "right", "no_wrap": True},
    "": {"no_wrap": True},
}


def report_table(report: VerificationReport) -> RenderableType:
    """Show what was verified, a line for each score, and the sum."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in (
        ("model", report.model),
        ("revision", report.revision),
        ("family", report.family),
        ("engine", f"{report.engine} ({report.engine_reason})"),
        ("dtype", report.dtype),
    ):
        facts.add_row(name, Text(value))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, options in _COLUMNS.items():
        table.add_column(title, **options)
    before = ""
    for score in report.scores:
        table.add_row(*_row(score, "" if score.golden == before else score.query))
        before = score.golden
    mark = "passed" if report.passed else "failed" if report.required else "failed, and is not required"
    verdict = Text(f"{mark}: {report.message}.", style="green" if report.passed else "red")
    skipped = [Text(f"not compared: {reason}", style="yellow") for reason in report.skipped]
    return Group(facts, Text(), table, Text(), *skipped, verdict)


def _row(score: ScoreComparison, query: str) -> tuple[Text | str, ...]:
    return (
        score.golden,
        Text(_shortened(query)),
        Text(_shortened(score.document)),
        f"{score.expected:.5f}",
        f"{score.got:.5f}",
        f"{score.deviation:.2g}",
        f"{score.tolerance:.2g}",
        Text("ok", style="green") if score.agrees else Text("WRONG", style="bold red"),
    )


def _shortened(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
