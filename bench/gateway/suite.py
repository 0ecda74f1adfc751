"""The benchmarks of the gateway, one after another: one that fails does not keep the others from running."""

import traceback
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, failed, show
from bench.gateway import added, changes, many, proxies

ROWS: dict[str, Callable[[Path], list[Figure]]] = {
    "added": added.run,
    "many": many.run,
    "changes": changes.run,
    "proxies": proxies.run,
}


def run(build: Path) -> list[Figure]:
    """Measure all rows."""
    figures: list[Figure] = []
    for name, measure in ROWS.items():
        try:
            taken = measure(build)
        except Exception as error:  # noqa: BLE001  # the one net of a run: told, and the next row is measured
            traceback.print_exc()
            taken = [failed(name, error)]
        show(name, taken)
        figures += taken
    return figures
