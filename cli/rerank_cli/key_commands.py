"""`rerank key …` on the command line; what the commands do is in `keys`, where they do it in `key_places`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

_CLUSTER = "In a cluster"

Name = Annotated[str, typer.Argument(metavar="NAME", help="The consumer.")]
File = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Manifests with the consumers; else consumers.yaml.")
]
Kubernetes = Annotated[
    bool,
    typer.Option("--kubernetes", help="Act on a cluster instead of a file.", rich_help_panel=_CLUSTER),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NS", help="The gateway's; else the context's.", rich_help_panel=_CLUSTER
    ),
]
Context = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of the kubeconfig; else the current one.", rich_help_panel=_CLUSTER),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Else what KUBECONFIG names, or ~/.kube/config.", rich_help_panel=_CLUSTER
    ),
]


@app.command()
def create(
    name: Name,
    *,
    model: Annotated[
        list[str] | None, typer.Option(help="Public name that it may call; repeat it for several; else all.")
    ] = None,
    file: File = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make a consumer with a key. The key is printed once; its digest alone is kept."""
    from rerank_cli import keys
    from rerank_cli.key_places import Place

    with Place(file, kubernetes, namespace, context, kubeconfig).keys() as kept:
        keys.create(name, model or (), kept)


@app.command("list")
def list_(
    *,
    file: File = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the consumers, what they may call, and how the digests of their keys begin."""
    from rerank_cli import keys
    from rerank_cli.key_places import Place

    with Place(file, kubernetes, namespace, context, kubeconfig).keys() as kept:
        keys.show(kept)


@app.command()
def rotate(
    name: Name,
    *,
    file: File = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Give a consumer one more key. The others count on until they are revoked."""
    from rerank_cli import keys
    from rerank_cli.key_places import Place

    with Place(file, kubernetes, namespace, context, kubeconfig).keys() as kept:
        keys.rotate(name, kept)


@app.command()
def revoke(
    name: Name,
    *,
    digest: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only the key whose digest begins so.")
    ] = None,
    older: Annotated[bool, typer.Option("--older", help="Every key but the newest.")] = False,
    file: File = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Remove a consumer with all of its keys, or some of its keys."""
    from rerank_cli import keys
    from rerank_cli.key_places import Place

    with Place(file, kubernetes, namespace, context, kubeconfig).keys() as kept:
        keys.revoke(name, digest, kept, older=older)
