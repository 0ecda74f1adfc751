"""Running other programs."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from images.errors import CommandError

Environment = Mapping[str, str]


def ask(command: Sequence[str], environment: Environment | None = None) -> str:
    """Return what `command` says on standard output; raise CommandError if it fails."""
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CommandError(command, done.stdout + done.stderr)
    return done.stdout


def show(command: Sequence[str], environment: Environment | None = None) -> None:
    """Run `command`, which tells the user itself what it does; raise CommandError if it fails."""
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode != 0:
        raise CommandError(command, "")


def feed(command: Sequence[str], write: Callable[[IO[bytes]], None]) -> None:
    """Run `command` with what `write` writes as its standard input; raise CommandError if it fails."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None  # noqa: S101  # a pipe, as asked for
        assert process.stdout is not None  # noqa: S101  # the same
        with contextlib.suppress(BrokenPipeError):  # it ended early, and says why
            write(process.stdin)
            process.stdin.close()
        said = process.stdout.read().decode()
    if process.returncode != 0:
        raise CommandError(command, said)
