"""`rerank crds`: the CustomResourceDefinitions, made from the API types."""

from pathlib import Path

from rerank_api import crd
from rerank_cli.errors import CliError, UsageError


def run(output: Path | None, check: Path | None) -> None:
    """Write the files to `output`, or raise `CliError` unless those in `check` are what would be written."""
    if (output is None) == (check is None):
        raise UsageError("crds: give --output DIR to write the files, or --check DIR to check them.")
    if output is not None:
        crd.write(output)
    if check is not None and (stale := crd.stale(check)):
        names = ", ".join(stale)
        raise CliError(f"{check}: not what the API types say: {names}. Write them again: make generate")
