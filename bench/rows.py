"""The rows of a benchmark, one after another: one that fails does not keep the others from running."""

import traceback
from collections.abc import Callable, Mapping

from bench.figures import Figure, failed, show


def measured(rows: Mapping[str, Callable[[], list[Figure]]]) -> list[Figure]:
    """Measure and show each row, by its name; return the figures of all."""
    figures: list[Figure] = []
    for name, measure in rows.items():
        try:
            taken = measure()
        except Exception as error:  # noqa: BLE001  # the one net of a run: told, and the next row is measured
            traceback.print_exc()
            taken = [failed(name, error)]
        show(name, taken)
        figures += taken
    return figures
