"""`python -m bench [NAME…]`: run the named benchmarks, or all; print a table, write build/bench/NAME.json."""

import sys
from collections.abc import Callable
from pathlib import Path

from bench import faults, gateway, server
from bench.figures import Figure, show, write

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "server": server.run,
    "gateway": gateway.run,
    "faults": faults.run,
}
BUILD = Path("build/bench")


def main(names: list[str]) -> None:
    """Run the benchmarks one after another: they share the machine with nothing else."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in names or BENCHMARKS:
        figures = BENCHMARKS[name](BUILD)
        show(name, figures)
        write(BUILD / f"{name}.json", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
