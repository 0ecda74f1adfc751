"""What a benchmark says, as a table for people and JSON for programs."""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number, with the bar that it is held against (None: it informs only)."""

    name: str
    value: float
    unit: str
    bar: float | None
    better: Literal["higher", "lower"]
    peer: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Say whether the bar is met, or None where there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed versions of these distributions."""
    return {name: version(name) for name in distributions}


def write(path: Path, figures: list[Figure]) -> None:
    """Write the figures as a JSON list."""
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n", "utf-8")


def show(title: str, figures: list[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title=title, title_justify="left")
    for heading in ("what", "value", "unit", "bar", "met", "beside"):
        table.add_column(heading, justify="right" if heading in {"value", "bar"} else "left")
    for each in figures:
        bar = "" if each.bar is None else f"{'≥' if each.better == 'higher' else '≤'} {each.bar:g}"
        met = {None: "", True: "yes", False: "NO"}[each.met]
        table.add_row(each.name, f"{each.value:.3g}", each.unit, bar, met, each.peer)
    Console(width=140).print(table)
