"""What a caller may take of bytes, time and connections, as arguments of the command line."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

from rerank_api.faces import MAX_BODY_BYTES

LONGEST_S = 86_400.0
"""No caller waits for more than a day."""

RETRY_AFTER_S = 2
"""What a caller is told to wait whom the gateway itself refuses for what it lacks just now: a replica, room,
its agent. Nobody knows how long that takes. Who calls too fast is told the very second (`waiting.lua`)."""


@dataclass(frozen=True)
class Limits:
    """The limits of one gateway; `rerank_gateway.bootstrap.BootstrapSettings` says what each means."""

    max_body_bytes: int = MAX_BODY_BYTES
    request_timeout_s: float = 300.0
    receive_timeout_s: float = 60.0
    max_connections: int = 10_000
    try_timeout_s: float | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Limits":
        """Return what `add_arguments` has parsed."""
        return cls(
            options.max_body_bytes,
            options.request_timeout_s,
            options.receive_timeout_s,
            options.max_connections,
            options.try_timeout_s,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let the limits be given; each has its default."""
    usual = Limits()

    def add(name: str, kind: Callable[[str], float], default: float, meaning: str) -> None:
        told = f"{meaning} ({default:g})" if isinstance(default, float) else f"{meaning} ({default})"
        parser.add_argument(name, type=kind, default=default, metavar="N", help=told)

    add("--max-body-bytes", _count, usual.max_body_bytes, "largest body")
    add("--request-timeout-s", _seconds, usual.request_timeout_s, "seconds for a model to answer")
    add("--receive-timeout-s", _seconds, usual.receive_timeout_s, "seconds for a caller to send a request")
    parser.add_argument(
        "--try-timeout-s",
        type=_seconds,
        metavar="N",
        help="seconds for one replica to answer (as long as for the model)",
    )
    add("--max-connections", _count, usual.max_connections, "connections of callers at the same time")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {2**31 - 1}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.001 to {LONGEST_S:g}")
    return value
