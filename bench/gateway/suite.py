"""The benchmarks of the gateway."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.figures import Figure
from bench.gateway import added, changes, many, proxies
from bench.rows import measured

ROWS: dict[str, Callable[[Path], list[Figure]]] = {
    "added": added.run,
    "many": many.run,
    "changes": changes.run,
    "proxies": proxies.run,
}


def run(build: Path) -> list[Figure]:
    """Measure all rows."""
    return measured({name: partial(measure, build) for name, measure in ROWS.items()})
