"""`python -m rerank_gateway`: the agent, and Envoy's bootstrap configuration."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from rerank_gateway.agent import Sockets, run
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.errors import GatewayError
from rerank_gateway.state_file import StateFileSource


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "bootstrap":
        host, port = options.listen
        try:
            settings = BootstrapSettings(listen_address=host, listen_port=port, socket_dir=options.socket_dir)
        except ValueError as error:
            sys.stderr.write(f"There is no such bootstrap: {error}\n")
            return 1
        sys.stdout.write(json.dumps(bootstrap(settings), indent=2) + "\n")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells each write of the state file
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return asyncio.run(_agent(options.state_file, options.socket_dir))


async def _agent(state_file: Path, socket_dir: Path) -> int:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    code = 0
    try:
        await run(StateFileSource(state_file), Sockets.inside(socket_dir), stop)
    except* (GatewayError, OSError) as failed:
        for error in failed.exceptions:
            sys.stderr.write(f"The gateway's agent cannot go on: {error}\n")
        code = 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rerank_gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    agent = commands.add_parser("agent", help="tell Envoy of the models in a state file, until SIGTERM")
    agent.add_argument("--state-file", type=Path, required=True, help="what to follow; need not exist yet")
    agent.add_argument("--socket-dir", type=Path, required=True, help="where ads.sock and http.sock are made")

    show = commands.add_parser("bootstrap", help="print the configuration that Envoy starts with, as JSON")
    show.add_argument(
        "--listen", type=_address, required=True, metavar="HOST:PORT", help="where Envoy listens"
    )
    show.add_argument("--socket-dir", type=Path, required=True, help="the agent's --socket-dir")
    return parser


def _address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
