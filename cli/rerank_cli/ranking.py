"""A ranking as a table for people."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rerank_cli.client import Answer

BAR_WIDTH = 16
EIGHTHS = " ▏▎▍▌▋▊▉█"


def lengths(scores: tuple[float, ...]) -> tuple[float, ...]:
    """Return each score's bar as a share of the whole width.

    Scores within 0..1 are shares already. Logits have no zero point, so their bars run from the lowest
    score to the highest.
    """
    if all(0 <= score <= 1 for score in scores):
        return scores
    low, high = min(scores), max(scores)
    return tuple(1.0 if high == low else (score - low) / (high - low) for score in scores)


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """Draw a share of `width` characters, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def ranking_table(answer: Answer) -> RenderableType:
    """Show rank, score and document, then what it cost."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("SCORE", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=BAR_WIDTH)
    table.add_column("DOCUMENT", ratio=1)
    shares = lengths(tuple(result.score for result in answer.results))
    for rank, (result, share) in enumerate(zip(answer.results, shares, strict=True), start=1):
        table.add_row(
            str(rank), f"{result.score:.4f}", Text(bar(share), style="cyan"), Text(one_line(result.text))
        )
    cost = f"{answer.model}: {answer.tokens} tokens, {answer.seconds * 1000:.0f} ms"
    return Group(table, Text(cost, style="dim"))


def one_line(text: str) -> str:
    """Return a document on one line, without control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
