"""The server's process: its command line, its end."""

import argparse
import logging
import math
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

import uvicorn

from rerank_api.faces import FACE_PATHS, MAX_BODY_BYTES
from rerank_api.manifests import read_file
from rerank_api.problems import ManifestError
from rerank_api.rerank_model import RerankModel
from rerank_api.status import ServerState
from rerank_server import logs
from rerank_server.app import create_app
from rerank_server.families.engines import AUTO, ENGINES
from rerank_server.lifecycle import Lifecycle
from rerank_server.metrics import Metrics
from rerank_server.observation import AsgiApp, Message, Observer, Receive, Scope, Send, observed
from rerank_server.settings import QUEUE_CHARACTERS, QUEUE_REQUESTS, REQUEST_TIMEOUT_S, Settings
from rerank_server.tracing import tracer_from
from rerank_server.verification_metrics import VerificationMetrics

KEEP_ALIVE_S = 75
DRAIN_S = 300
LOG_FORMATS: tuple[logs.LogFormat, ...] = ("text", "json")


class Server(uvicorn.Server):
    """uvicorn's server, which tells the lifecycle when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say so in `/status` first; admitted requests are still answered."""
        self._lifecycle.drain()
        super().handle_exit(sig, frame)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, serve, drain."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.log_format not in LOG_FORMATS:
        parser.error(f"the log format {options.log_format} is not known: write {' or '.join(LOG_FORMATS)}")
    logs.configure(options.log_level, options.log_format)
    try:
        manifest = _read_manifest(options.manifest)
    except ManifestError as error:
        sys.exit(str(error))
    settings = Settings(
        host=options.host,
        port=options.port,
        listen_fd=options.fd,
        threads=options.threads,
        engine=options.engine,
        cache_dir=options.cache_dir,
        hub_token=os.environ.get("HF_TOKEN"),
        max_body_bytes=options.max_body_bytes,
        workers=options.workers,
        request_timeout_s=options.request_timeout_s,
        queue_tokens=options.queue_tokens,
        queue_requests=options.queue_requests,
        queue_characters=options.queue_characters,
    )
    serve(manifest, settings, log_requests=options.access_log)


def serve(manifest: RerankModel, settings: Settings, *, log_requests: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, answer what is admitted, end the process with 0."""
    tracer = tracer_from(os.environ)
    observers: list[Observer] = [tracer] if tracer else []
    observers += [logs.AccessLog()] if log_requests else []
    metrics = Metrics()
    verifications = VerificationMetrics(metrics.registry)
    lifecycle = Lifecycle(manifest, settings, metrics.observe, verifications.observe)
    server = Server(
        uvicorn.Config(
            closing(observed(create_app(lifecycle, metrics), FACE_PATHS, observers), lifecycle),
            host=settings.host,
            port=settings.port,
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(DRAIN_S, math.ceil(settings.request_timeout_s)),
            server_header=False,
            date_header=False,
        ),
        lifecycle,
    )
    # uvicorn raises the signal again once it has drained, for whoever handled it before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    inherited = None if settings.listen_fd is None else [socket.socket(fileno=settings.listen_fd)]
    server.run(sockets=inherited)
    if tracer:
        tracer.close()
    logging.shutdown()
    if any(thread.name == "bring-up" for thread in threading.enumerate()):
        os._exit(0)  # a download or a load is under way in native code and cannot be interrupted


def closing(app: AsgiApp, lifecycle: Lifecycle) -> AsgiApp:
    """Return `app`, whose answers end their connection once the server is on its way out."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and lifecycle.state is ServerState.DRAINING:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await app(scope, receive, sending)

    return serve


def _read_manifest(path: Path) -> RerankModel:
    documents = read_file(path)
    if len(documents) != 1 or not isinstance(documents[0].resource, RerankModel):
        sys.exit(f"{path}: a server serves one RerankModel: give it a file with exactly one.")
    return documents[0].resource


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rerank-server", description="Serve one RerankModel over HTTP.")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="file with one RerankModel (YAML or JSON)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--fd", type=int, help="inherited listening socket, instead of --host and --port")
    parser.add_argument(
        "--threads", type=_at_least_one, help="CPU threads for the model (default: one a core)"
    )
    parser.add_argument(
        "--engine",
        default=AUTO,
        choices=(AUTO, *ENGINES),
        help="compute with this engine or not at all (%(default)s)",
    )
    parser.add_argument("--cache-dir", type=Path, help="where downloads are kept")
    parser.add_argument(
        "--max-body-bytes", type=_at_least_one, default=MAX_BODY_BYTES, help="largest request body"
    )
    parser.add_argument(
        "--workers", type=_at_least_one, help="threads that compute batches side by side (default: measured)"
    )
    parser.add_argument(
        "--request-timeout-s",
        type=_seconds,
        default=REQUEST_TIMEOUT_S,
        help="how long a request may take; its header X-Request-Timeout may ask for less (%(default)s)",
    )
    parser.add_argument(
        "--queue-tokens",
        type=_at_least_one,
        help="tokens of small requests that may wait, and of large ones (default: 30 s of work, measured)",
    )
    parser.add_argument(
        "--queue-requests",
        type=_at_least_one,
        default=QUEUE_REQUESTS,
        help="requests that may be in, waiting or running (%(default)s)",
    )
    parser.add_argument(
        "--queue-characters",
        type=_at_least_one,
        default=QUEUE_CHARACTERS,
        help="characters of queries and documents that may be in (%(default)s)",
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--log-format",
        default=os.environ.get("RERANK_LOG_FORMAT") or "text",
        choices=LOG_FORMATS,
        help="how the log is written (default: RERANK_LOG_FORMAT, else text)",
    )
    parser.add_argument(
        "--access-log",
        action="store_true",
        default=os.environ.get("RERANK_ACCESS_LOG", "").lower() in {"1", "true"},
        help="log a line for each request, without any text of it (default: RERANK_ACCESS_LOG)",
    )
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time: give seconds above zero")
    return seconds
