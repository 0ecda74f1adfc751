"""`python -m rerank_operator --settings FILE`: the operator, until SIGTERM."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from rerank_operator.errors import OperatorError
from rerank_operator.process import Where, run
from rerank_operator.settings import read


def main(arguments: list[str] | None = None) -> int:
    """Run; return the process's exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("aiohttp.access", "kopf", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    code = 0
    try:
        asyncio.run(run(read(options.settings), Where.of_environment(options.health)))
    except* OperatorError as failed:
        for error in _leaves(failed):
            sys.stderr.write(f"The operator cannot go on: {error}\n")
        code = 1
    return code


def _leaves(group: BaseExceptionGroup[OperatorError]) -> Iterator[OperatorError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rerank_operator", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="YAML file, as the chart writes it")
    parser.add_argument(
        "--health",
        default="127.0.0.1:8081",
        metavar="HOST:PORT",
        help="where /healthz is (default: %(default)s)",
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
