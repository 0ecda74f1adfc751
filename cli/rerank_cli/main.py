"""The `rerank` command. Each subcommand imports what it needs when it runs, so that help comes at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from rerank_cli import key_commands
from rerank_cli.errors import CliError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it."""

app = typer.Typer(
    name="rerank",
    help="Run rerankers, and ask them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(key_commands.app, name="key", help="Make keys for consumers; list, replace and revoke them.")


@app.command()
def up(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Manifests, or directories of them.")
    ],
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Where the gateway listens; off loopback with keys only. Port 0: any."
        ),
    ] = "127.0.0.1:8080",
    try_: Annotated[
        Path | None,
        typer.Option("--try", metavar="REQUEST.json", help="Request to send once the models are ready."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where sockets and state are while it runs.")
    ] = None,
    *,
    tls_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Speak TLS with tls.crt and tls.key of there, also once renewed."),
    ] = None,
    tracing_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Send spans of requests to this OpenTelemetry collector, by OTLP over HTTP."
        ),
    ] = None,
    tracing_sampling: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="Of how many requests (100), where callers have not decided."),
    ] = None,
) -> None:
    """Serve models on this machine until Ctrl-C: a server a replica, behind the gateway."""
    from rerank_cli.up import command

    spans = command.Spans(tracing_endpoint, tracing_sampling)
    command.up(manifests, listen, run_dir, try_, tls_dir=tls_dir, spans=spans)


@app.command()
def query(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOCUMENT…", help="Documents to rank; - takes one a line from standard input."
        ),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option(help="Public name; by default the only one ready.")] = None,
    url: Annotated[str, typer.Option(help="The gateway.")] = "http://127.0.0.1:8080",
    top_n: Annotated[int | None, typer.Option(min=1, help="How many of the best to show.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as it came.")] = False,
) -> None:
    """Rank documents for a query."""
    from rerank_cli import query as ask

    ask.run(ask.Query(query, documents or (), url, model, top_n), as_json=json)


@app.command()
def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A manifest, a folder with a checkpoint, package:NAME, or owner/name[@revision].",
        ),
    ] = None,
    *,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a running server instead, e.g. a port-forwarded pod."),
    ] = None,
    engine: Annotated[str, typer.Option(help="Compute with this engine or not at all.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, one line a model.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Print goldens with the scores of now, for spec.verify.")
    ] = False,
) -> None:
    """Compare a model's scores with those that are known to be right. Exit code 1 where they are not."""
    from rerank_cli import verify as proof

    if not proof.run(proof.Asked(model, server, engine, as_json=json, as_goldens=write)):
        raise typer.Exit(1)


@app.command()
def crds(
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write them there.")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Fail if those there are not what would be written.")
    ] = None,
) -> None:
    """Write the CustomResourceDefinitions of RerankModel and RerankConsumer, or check written ones."""
    from rerank_cli import crds as files

    files.run(output, check)


@app.command()
def version() -> None:
    """Print the version."""
    from rerank_api import __version__

    typer.echo(f"rerank {__version__}")


def main() -> None:
    """Run the command line. What goes wrong is told as a sentence, with exit code 1, or 2 for wrong usage."""
    try:
        app()
    except CliError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get("RERANK_DEBUG"):
            raise
        _fail(
            f"{error!r} was not expected: this is a defect of rerank. RERANK_DEBUG=1 shows where it arose.", 1
        )


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(f"rerank: {sentence}\n")
    sys.exit(code)
