"""`python -m images build|load`: what `make images` and `make images-load` run."""

import argparse
import os
import sys

from images import builders, load, recipe, secrets
from images.errors import ImagesError


def build(registry: str, base: str, packages: str, builder: str) -> None:
    """Build both images of this version, and keep them where the builder keeps images."""
    version = recipe.version()
    chosen = builders.find(builder)
    wanted = recipe.recipes(registry, version, version, base, packages)
    with secrets.mounted(os.environ) as mounted:
        for one in wanted:
            chosen.build(one, mounted)
    print("Built " + " and ".join(one.reference for one in wanted))


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "build":
            build(options.registry, options.base, options.packages, options.builder)
        else:
            load.load()
    except ImagesError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m images", description="Build and load the images.")
    commands = parser.add_subparsers(dest="command", required=True)
    built = commands.add_parser("build", help="build both images of this version")
    built.add_argument(
        "--registry", default="localhost", help="what stands before rerank-server and rerank-control"
    )
    built.add_argument("--base", default="", help="base image with Python 3.11 or newer and its venv module")
    built.add_argument("--packages", default="", help="Python packages to add to the server image")
    built.add_argument("--builder", default="", help="buildah or docker; by default whichever is there")
    commands.add_parser("load", help="build the test images, and load them into the test cluster")
    return parser


if __name__ == "__main__":
    sys.exit(main())
