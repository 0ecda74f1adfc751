"""The benchmarks of the server, one after another: one that fails does not keep the others from running."""

import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from bench.figures import Figure, failed, show, without_bars
from bench.server import causal, library, mixed, overload, served, start, steady
from bench.server.scale import FULL, QUICK, Scale

Measure = Callable[[Path, Scale], list[Figure]]

ROWS: dict[str, Measure] = {
    "minilm": library.minilm,
    "xlm-r": library.xlm_r,
    "causal": causal.shared_prefix,
    "served": served.beside_peers,
    "mixed": mixed.small_beside_large,
    "overload": overload.ten_times_too_much,
    "start": start.to_ready,
    "steady": steady.memory,
}


def run(build: Path, *, quick: bool = False, rows: Collection[str] = ()) -> list[Figure]:
    """Measure these rows, or all. `quick` takes about two minutes and judges nothing."""
    scale = QUICK if quick else FULL
    figures: list[Figure] = []
    for name, measure in ROWS.items():
        if rows and name not in rows:
            continue
        try:
            taken = measure(build, scale)
        except Exception as error:  # noqa: BLE001  # the one net of a run: told, and the next row is measured
            traceback.print_exc()
            taken = [failed(name, error)]
        show(name, taken)
        figures += taken
    return without_bars(figures) if quick else figures
