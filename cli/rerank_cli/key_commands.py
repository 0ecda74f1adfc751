"""`rerank key …` on the command line; what the commands do is in `keys`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The consumer.")]
File = Annotated[Path, typer.Option(metavar="FILE", help="Manifests with the consumers.")]
DEFAULT_FILE = Path("consumers.yaml")


@app.command()
def create(
    name: Name,
    *,
    model: Annotated[
        list[str] | None, typer.Option(help="Public name that it may call; repeat it for several; else all.")
    ] = None,
    file: File = DEFAULT_FILE,
) -> None:
    """Make a consumer with a key. The key is printed once; the file holds its digest alone."""
    from rerank_cli import keys

    keys.create(name, model or (), file)


@app.command("list")
def list_(*, file: File = DEFAULT_FILE) -> None:
    """List the consumers, what they may call, and how the digests of their keys begin."""
    from rerank_cli import keys

    keys.show(file)


@app.command()
def rotate(name: Name, *, file: File = DEFAULT_FILE) -> None:
    """Give a consumer one more key. The others count on until they are revoked."""
    from rerank_cli import keys

    keys.rotate(name, file)


@app.command()
def revoke(
    name: Name,
    *,
    digest: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only the key whose digest begins so.")
    ] = None,
    older: Annotated[bool, typer.Option("--older", help="Every key but the newest.")] = False,
    file: File = DEFAULT_FILE,
) -> None:
    """Remove a consumer with all of its keys, or some of its keys."""
    from rerank_cli import keys

    keys.revoke(name, digest, file, older=older)
