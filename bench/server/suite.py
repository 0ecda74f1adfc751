"""The benchmarks of the server."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from bench.figures import Figure, without_bars
from bench.rows import measured
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
    figures = measured(
        {name: partial(measure, build, scale) for name, measure in ROWS.items() if not rows or name in rows}
    )
    return without_bars(figures) if quick else figures
