"""The gateway's two processes, agent and Envoy: their commands, whether they answer, and Envoy's drain."""

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from rerank_api.faces import MODELS_PATH
from rerank_api.status import ModelState
from rerank_cli.client import KEY_VARIABLE
from rerank_cli.errors import StartError
from rerank_cli.up.listen import Listen
from rerank_cli.up.processes import Command
from rerank_gateway import admin, envoy_binary, envoy_process, sockets, tls
from rerank_gateway.bootstrap import BootstrapSettings
from rerank_gateway.errors import CertificateError
from rerank_gateway.tracing import Tracing

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", KEY_VARIABLE)
"""Of the environment; only the servers, or the runner itself, need them."""

ROUTINE = re.compile(r" (DEBUG|INFO) |caught ENVOY_SIGTERM|gRPC config stream to ads closed")
"""Lines of agent and Envoy that need nobody's attention, or that the runner tells in words of its own."""


@dataclass(frozen=True)
class Answers:
    """A GET over a unix socket in the run directory that is answered with 200 once a process is of use."""

    socket: str
    path: str


AGENT_ANSWERS = Answers(sockets.HTTP, MODELS_PATH)
ENVOY_ANSWERS = Answers(sockets.ADMIN, "/ready")


def agent_command(run_dir: Path) -> Command:
    """Return how the agent is run on this run directory's state file."""
    argv = (
        sys.executable, "-m", "rerank_gateway", "agent",
        "--state-file", str(state_file(run_dir)), "--socket-dir", str(run_dir),
    )  # fmt: skip
    return Command(argv, environment=_environment())


def envoy_command(run_dir: Path, listen: Listen, *, auth: bool, tracing: Tracing | None = None) -> Command:
    """Write Envoy's static configuration into the run directory, and return how Envoy is run on it.

    Raises `OSError` where it cannot be written, `EnvoyNotFoundError` where this machine has no Envoy.
    """
    settings = BootstrapSettings(
        listen_address=listen.address,
        listen_port=listen.port,
        socket_dir=run_dir,
        auth=auth,
        tls_dir=listen.tls_dir,
        tracing=tracing,
    )
    argv = envoy_process.prepare(settings, log_format=envoy_process.PLAIN_LOG)
    return Command(argv, environment=_environment())


def require_envoy() -> None:
    """Raise `StartError` where this machine has no Envoy."""
    try:
        envoy_binary.find()
    except envoy_binary.EnvoyNotFoundError as error:
        raise StartError(str(error)) from error


def require_certificate(directory: Path) -> None:
    """Raise `StartError` where Envoy cannot speak TLS with what is in the directory."""
    try:
        tls.check(directory, envoy_binary.find())
    except (envoy_binary.EnvoyNotFoundError, CertificateError) as error:
        raise StartError(str(error)) from error


def state_file(run_dir: Path) -> Path:
    """Return where the models' state is written for the agent."""
    return run_dir / "state.json"


async def answers(run_dir: Path, wanted: Answers) -> bool:
    """Say whether it is answered with 200 now."""
    with contextlib.suppress(httpx.HTTPError, OSError):
        async with _client(run_dir / wanted.socket) as client:
            answer = await client.get(wanted.path)
            return answer.status_code == 200
    return False


async def listed(run_dir: Path) -> Mapping[tuple[str, str], ModelState]:
    """Return how the gateway lists each model under each public name; nothing where it does not answer."""
    with contextlib.suppress(httpx.HTTPError, OSError, ValueError, KeyError):
        async with _client(run_dir / AGENT_ANSWERS.socket) as client:
            answer = await client.get(AGENT_ANSWERS.path)
            return {
                (entry["id"], part["model"]): ModelState(part["state"])
                for entry in answer.json()["data"]
                for part in entry.get("shared_by", ({"model": entry["owned_by"], "state": entry["state"]},))
            }
    return {}


async def drain(run_dir: Path, limit_s: float) -> None:
    """Let Envoy take no new connections, and return once no request is under way, or after `limit_s`."""
    await admin.drain(run_dir / ENVOY_ANSWERS.socket, limit_s)


def _client(socket: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    return httpx.AsyncClient(transport=transport, base_url="http://local", timeout=5.0)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRETS}
