"""`python -m rerank_gateway`: the agent, Envoy, and what ends them in peace."""

import argparse
import asyncio
import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_gateway.bounds import Limits, add_arguments
from rerank_gateway.errors import GatewayError
from rerank_gateway.sockets import ADMIN

if TYPE_CHECKING:
    from rerank_gateway.bootstrap import BootstrapSettings
    from rerank_gateway.exchange import Exchange
    from rerank_gateway.models import Endpoint
    from rerank_gateway.source import Source

NOTICE_S = 10.0
"""Seconds that load balancers get to notice that this gateway is going."""

# Each command imports its own parts: `drain` and `envoy` start in a tenth of the agent's time.


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    match options.command:
        case "agent":
            if not options.kubernetes and (options.namespace or options.kubeconfig or options.consumers_in):
                parser.error("--namespace, --consumers-in and --kubeconfig go with --kubernetes")
            if options.peers_of and not options.kubernetes:
                parser.error("--peers-of goes with --kubernetes")
            if bool(options.counts_listen) != bool(options.peers_of or options.peer):
                parser.error("--counts-listen goes with --peers-of or --peer")
            return _agent(options)
        case "drain":
            return _drain(options.socket_dir, options.limit_s, options.notice_s)
        case _:
            return _with_settings(options)


def _agent(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells each write of the state file
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    open_files, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files != allowed:  # each request that waits has a connection
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    return asyncio.run(_run_agent(options))


def _source(options: argparse.Namespace) -> "Source":
    if options.kubernetes:
        from rerank_gateway.kubernetes.api import KubernetesApi
        from rerank_gateway.kubernetes.source import KubernetesSource

        api = KubernetesApi(options.kubeconfig)
        return KubernetesSource(api, tuple(options.namespace), consumers_in=options.consumers_in)
    from rerank_gateway.state_file import StateFileSource

    return StateFileSource(options.state_file)


def _others(options: argparse.Namespace) -> "Exchange | None":
    from rerank_gateway.exchange import Exchange, FixedPeers

    if options.counts_listen is None:
        return None
    if options.peers_of is None:
        return Exchange(options.counts_listen, FixedPeers(tuple(options.peer)))
    from rerank_gateway.kubernetes.api import KubernetesApi
    from rerank_gateway.kubernetes.peers import KubernetesPeers

    return Exchange(
        options.counts_listen, KubernetesPeers(KubernetesApi(options.kubeconfig), *options.peers_of)
    )


async def _run_agent(options: argparse.Namespace) -> int:
    from rerank_gateway.agent import Sockets, run
    from rerank_gateway.ending import end_if_hung, set_when_told, told_to_end
    from rerank_gateway.hold import Bounds

    stop = asyncio.Event()
    envoy = options.socket_dir / ADMIN
    beside = (
        asyncio.create_task(set_when_told(stop, told_to_end(), envoy, options.linger_s)),
        asyncio.create_task(end_if_hung()),
    )
    code = 0
    bounds = Bounds(options.hold_requests, options.hold_mib * 1024 * 1024, options.hold_s)
    try:
        sockets = Sockets.inside(options.socket_dir)
        await run(_source(options), sockets, stop, bounds, _others(options))
    except* (GatewayError, OSError) as failed:
        for error in failed.exceptions:
            sys.stderr.write(f"The gateway's agent cannot go on: {error}\n")
        code = 1
    finally:
        for task in beside:
            task.cancel()
    return code


def _with_settings(options: argparse.Namespace) -> int:
    from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
    from rerank_gateway.tracing import asked_for

    host, port = options.listen
    limits = Limits.of(options)
    try:
        settings = BootstrapSettings(
            host,
            port,
            options.socket_dir,
            max_body_bytes=limits.max_body_bytes,
            request_timeout_s=limits.request_timeout_s,
            receive_timeout_s=limits.receive_timeout_s,
            max_connections=limits.max_connections,
            try_timeout_s=limits.try_timeout_s,
            auth=options.auth,
            concurrency=options.concurrency,
            tls_dir=options.tls_dir,
            access_log=options.access_log,
            metrics=options.metrics_listen,
            tracing=asked_for(options.tracing_endpoint, options.tracing_sampling),
        )
    except ValueError as error:
        sys.stderr.write(f"There is no such bootstrap: {error}\n")
        return 1
    if options.command == "envoy":
        return _become_envoy(settings)
    sys.stdout.write(json.dumps(bootstrap(settings), indent=2) + "\n")
    return 0


def _become_envoy(settings: "BootstrapSettings") -> int:
    from rerank_gateway import envoy_binary, tls
    from rerank_gateway.envoy_process import prepare

    try:
        if settings.tls_dir is not None:
            tls.check(settings.tls_dir, envoy_binary.find())
        settings.socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = prepare(settings)
        os.execv(command[0], command)  # noqa: S606  # no shell: signals reach Envoy itself
    except (GatewayError, OSError) as error:
        sys.stderr.write(f"Envoy cannot be started: {error}\n")
    return 1


def _drain(socket_dir: Path, limit_s: float, notice_s: float) -> int:
    from rerank_gateway.admin import drain

    if asyncio.run(drain(socket_dir / ADMIN, limit_s, notice_s=notice_s)):
        return 0
    sys.stderr.write(f"Requests are still under way after {limit_s:g} s; they will be cut off.\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rerank_gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    agent = commands.add_parser("agent", help="tell Envoy which models there are, until SIGTERM")
    source = agent.add_mutually_exclusive_group(required=True)
    source.add_argument("--state-file", type=Path, help="follow this file; it need not exist yet")
    source.add_argument("--kubernetes", action="store_true", help="follow RerankModels and EndpointSlices")
    agent.add_argument(
        "--namespace", action="append", default=[], help="of the models; repeat it for several; else all"
    )
    agent.add_argument(
        "--consumers-in",
        metavar="NAMESPACE",
        help="of the RerankConsumers, and of the Secrets with their keys; without it nobody has a key",
    )
    agent.add_argument(
        "--kubeconfig", type=Path, help="how to reach Kubernetes; else as the service account of this pod"
    )
    agent.add_argument("--socket-dir", type=Path, required=True, help="where its sockets are made")
    agent.add_argument(
        "--linger-s",
        type=float,
        default=0.0,
        metavar="N",
        help="after SIGTERM, go on for as long as Envoy lives, at most N seconds",
    )
    agent.add_argument(
        "--hold-requests",
        type=_at_least_1,
        default=1_000,
        metavar="N",
        help="how many requests may wait for each model at zero replicas (1000)",
    )
    agent.add_argument(
        "--hold-mib",
        type=_at_least_1,
        default=256,
        metavar="N",
        help="how large their bodies may be together, in MiB: Envoy holds them in memory (256)",
    )
    agent.add_argument(
        "--hold-s", type=_at_least_1, default=120, metavar="N", help="how many seconds each may wait (120)"
    )
    agent.add_argument(
        "--counts-listen",
        type=_address,
        metavar="IP:PORT",
        help="where other replicas of this gateway ask what consumers have used, so that limits hold for all "
        "replicas together; nowhere by default",
    )
    peers = agent.add_mutually_exclusive_group()
    peers.add_argument(
        "--peers-of",
        type=_namespace_and_name,
        metavar="NAMESPACE/SERVICE",
        help="ask the endpoints of this Service, at the port named counts",
    )
    peers.add_argument(
        "--peer",
        type=_endpoint,
        action="append",
        default=[],
        metavar="IP:PORT",
        help="ask this replica; repeat it for several",
    )

    envoy = commands.add_parser("envoy", help="become the Envoy beside the agent")
    show = commands.add_parser("bootstrap", help="print what Envoy starts with, as JSON, but for its secret")
    for command in (envoy, show):
        command.add_argument(
            "--listen", type=_address, required=True, metavar="HOST:PORT", help="where Envoy listens"
        )
        command.add_argument("--socket-dir", type=Path, required=True, help="the agent's --socket-dir")
        add_arguments(command)
        command.add_argument("--auth", action="store_true", help="ask callers for the key of a consumer")
        command.add_argument(
            "--tls-dir",
            type=Path,
            metavar="DIR",
            help="speak TLS with tls.crt and tls.key of there, as they are renewed",
        )
        command.add_argument(
            "--metrics-listen",
            type=_address,
            metavar="HOST:PORT",
            help="where Prometheus finds /metrics and /stats/prometheus; nowhere by default",
        )
        command.add_argument(
            "--tracing-endpoint",
            metavar="URL",
            help="the OpenTelemetry collector that spans of requests go to, by OTLP over HTTP",
        )
        command.add_argument(
            "--tracing-sampling",
            type=float,
            metavar="PERCENT",
            help="of how many requests, where their callers have not decided it (100)",
        )
        command.add_argument("--access-log", type=Path, help="a file for a JSON line a request")
        command.add_argument("--concurrency", type=int, metavar="N", help="worker threads, else one a core")

    drain = commands.add_parser("drain", help="have Envoy finish what it has begun, and take nothing new")
    drain.add_argument("--socket-dir", type=Path, required=True, help="the agent's --socket-dir")
    drain.add_argument(
        "--limit-s", type=float, default=320.0, metavar="N", help="give up after N seconds (320)"
    )
    drain.add_argument(
        "--notice-s",
        type=float,
        default=NOTICE_S,
        metavar="N",
        help=f"take requests for N seconds more, until load balancers have noticed ({NOTICE_S:g})",
    )
    return parser


def _at_least_1(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    """Split HOST:PORT; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _endpoint(text: str) -> "Endpoint":
    from rerank_gateway.models import Endpoint

    try:
        return Endpoint(*_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _namespace_and_name(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/SERVICE")
    return namespace, name


if __name__ == "__main__":
    sys.exit(main())
