"""`python -m bench [NAME…]`: run the named benchmarks, or all; print a table, write build/bench/NAME.json.

`python -m bench report` writes what was measured into docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import faults, report
from bench.figures import Figure, show, write
from bench.gateway import suite as gateway_suite
from bench.machine import about
from bench.processes import StartError
from bench.server import suite as server_suite

BUILD = Path("build/bench")
REPORT = "report"


def main(arguments: list[str]) -> None:
    """Run the benchmarks one after another: they share the machine with nothing else.

    Ends with 1 where something could not be measured or missed its bar.
    """
    asked = _parser().parse_args(arguments)
    if asked.names == [REPORT]:
        report.update(BUILD)
        return
    benchmarks: dict[str, Callable[[Path], list[Figure]]] = {
        "server": partial(server_suite.run, quick=asked.quick, rows=asked.rows),
        "gateway": gateway_suite.run,
        "faults": faults.run,
    }
    unknown = [name for name in asked.names if name not in benchmarks]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(benchmarks)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    for name in asked.names or benchmarks:
        try:
            figures = benchmarks[name](BUILD)
        except StartError as error:
            sys.exit(str(error))
        show(name, figures)
        write(BUILD / f"{name}{_kind(asked)}.json", figures, about(arguments))
        wrong += [figure.name for figure in figures if figure.met is False or figure.value is None]
    if wrong:
        sys.exit("Missed or not measured:\n" + "\n".join(f"  {name}" for name in wrong))


def _kind(asked: argparse.Namespace) -> str:
    """Name the runs that are no whole measurement, so that they never replace one."""
    return ".quick" if asked.quick else ".rows" if asked.rows else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="server, gateway, faults; or report")
    parser.add_argument("--quick", action="store_true", help="of the server: see that every row runs")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=(),
        choices=tuple(server_suite.ROWS),
        help="of the server: these rows only",
    )
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
