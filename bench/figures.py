"""What a benchmark says, as a table for people and JSON for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number, with the bar that it is held against (None: it informs only)."""

    name: str
    value: float | None
    """None where it could not be measured; `note` says why."""
    unit: str
    bar: float | None
    better: Literal["higher", "lower"]
    peer: str
    versions: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Say whether the bar is met, or None where there is none, or no value."""
        if self.bar is None or self.value is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar

    @property
    def bar_text(self) -> str:
        """The bar as people write it: `≥ 3.5`."""
        return "" if self.bar is None else f"{'≥' if self.better == 'higher' else '≤'} {self.bar:g}"

    @property
    def value_text(self) -> str:
        """Three significant digits, never in powers of ten."""
        if self.value is None:
            return "not run"
        return f"{self.value:.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"

    @property
    def met_text(self) -> str:
        """`yes`, `NO`, or nothing."""
        return {None: "", True: "yes", False: "NO"}[self.met]


def not_run(name: str, why: str) -> Figure:
    """Return the row of something that could not be measured."""
    return Figure(name, None, "", None, "higher", "", note=why)


def failed(name: str, error: BaseException) -> Figure:
    """Return the row of something that ended with an error: its last line, which says most."""
    return not_run(name, (str(error).strip() or repr(error)).splitlines()[-1])


def without_bars(figures: list[Figure]) -> list[Figure]:
    """Return the figures as information: a run that is too short to judge by."""
    return [replace(figure, bar=None) for figure in figures]


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed versions of these distributions."""
    return {name: version(name) for name in distributions}


def write(path: Path, figures: list[Figure], about: Mapping[str, Any]) -> None:
    """Write the figures with what they were measured by and on."""
    content = {**about, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path) -> tuple[list[Figure], dict[str, Any]]:
    """Return what `write` wrote."""
    about = json.loads(path.read_text("utf-8"))
    return [Figure(**each) for each in about.pop("figures")], about


def show(title: str, figures: list[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title=title, title_justify="left")
    for heading in ("what", "value", "unit", "bar", "met", "beside"):
        table.add_column(heading, justify="right" if heading in {"value", "bar"} else "left")
    for each in figures:
        beside = "; ".join(text for text in (each.peer, each.note) if text)
        table.add_row(each.name, each.value_text, each.unit, each.bar_text, each.met_text, beside)
    Console(width=160).print(table)
