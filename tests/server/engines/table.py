"""How far every engine is from one row at a time, by family: `python -m tests.server.engines.table`."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from tests.server.engines.cases import CASES, Case, difference, make_rows, one_by_one, open_case, save

ENGINES = ("cpu", "causal", "packed", "padded")
LENGTHS = (3, 60, 17, 41, 1, 33, 8, 70, 25, 2, 12, 55)
SEEDS = range(4)


def differences(case: Case, folder: Path) -> dict[str, float]:
    """Return the largest difference by engine, over rows with and without shared beginnings."""
    save(case, folder)
    reference = open_case(case, folder, "padded").engine
    found = {}
    for name in case.engines:
        engine = open_case(case, folder, name).engine
        found[name] = max(
            difference(engine.run(rows), one_by_one(reference, rows))
            for rows in (make_rows(case, LENGTHS, seed, shared=9 * (seed % 2)) for seed in SEEDS)
        )
    return found


def lines() -> Iterator[str]:
    """Return the table in Markdown, line by line."""
    yield f"| family | model | {' | '.join(ENGINES)} |"
    yield "|---|---|" + "---|" * len(ENGINES)
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = differences(case, Path(folder))
        cells = [f"{found[name]:.1e}" if name in found else "-" for name in ENGINES]
        yield f"| {case.family} | {case.name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table: the largest absolute difference in fp32 from the padded engine, a row at a time."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    disable_progress_bar()
    torch.set_num_threads(1)
    for line in lines():
        print(line, flush=True)


if __name__ == "__main__":
    main()
