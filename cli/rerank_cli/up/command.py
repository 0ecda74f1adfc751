"""`rerank up`: check everything that can be checked before anything is started, then run."""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rerank_cli.errors import CliError, StartError

PARTS = {
    "server": ("fastapi", "uvicorn", "tokenizers", "torch", "transformers"),
    "gateway": ("fastapi", "grpc", "google.protobuf", "uvicorn"),
}
"""By extra: the packages that show whether it is installed."""


@dataclass(frozen=True)
class Spans:
    """Where spans of requests go, as the command line says; without an endpoint none are made."""

    endpoint: str | None = None
    percent: float | None = None
    """Of how many requests; None means all."""


class CutShortError(CliError):
    """The user did not wait for the drain to end."""


def up(
    paths: Sequence[Path],
    listen: str,
    run_dir: Path | None,
    try_file: Path | None,
    *,
    tls_dir: Path | None = None,
    spans: Spans = Spans(),
) -> None:
    """Run until asked to stop. Raises `CliError` where it cannot start, or was told not to finish."""
    require_parts()
    # Only now: these import the parts.
    from rerank_cli.up import attempt, gateway, manifests, output, rundir, supervisor, view
    from rerank_cli.up.listen import claim, split
    from rerank_cli.up.tracing import tracing

    split(listen)  # what is written wrong on the command line is said first
    collector = tracing(spans.endpoint, spans.percent)
    read = manifests.read(tuple(paths))
    if read.problems or read.unusable:
        raise StartError(read.complaint())
    certificate = None if tls_dir is None else tls_dir.absolute()
    where = claim(listen, asks_for_keys=bool(read.consumers), tls_dir=certificate)
    if certificate is not None:
        gateway.require_certificate(certificate)
    wanted = manifests.versions(read)
    if not wanted:
        raise StartError(f"{', '.join(map(str, paths))}: there is no manifest of a RerankModel here.")
    trial = None
    if try_file is not None:
        trial = attempt.read_attempt(try_file)
        attempt.refuse_unknown_model(trial, wanted)
        if read.consumers:
            attempt.require_key(trial)
    with contextlib.ExitStack() as held:
        stream = held.enter_context(output.text_output(sys.stdout.fileno()))
        console = Console(file=stream, highlight=False)
        directory = held.enter_context(rundir.run_directory(run_dir))
        shown = held.enter_context(view.LiveView(console)) if console.is_terminal else view.PlainView(console)
        settings = supervisor.Settings(tuple(paths), where, directory, trial, collector)
        if not asyncio.run(supervisor.run(settings, read, shown)):
            raise CutShortError("Stopped before every request was finished.")


def require_parts() -> None:
    """Raise `StartError` with the command that installs what is missing."""
    missing = sorted(part for part, modules in PARTS.items() if not all(map(_is_there, modules)))
    if missing:
        raise StartError(
            f"The parts that `rerank up` runs are not installed: {', '.join(missing)}. "
            f"In a checkout of the project, install them: pip install '.[{','.join(missing)}]'"
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
