"""A closed loop of clients: wrk, which leaves the cores to what is measured; Python's where there is none."""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import debian
from bench.load import Target, requests_per_second

PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")

# wrk says no word of a refusal's body, so a run with one that is not 200 counts for nothing.
_SCRIPT = """local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
{headers}
function done(summary, latency, requests)
  local failed = summary.errors
  print("FAILED", failed.connect + failed.read + failed.write + failed.status + failed.timeout)
  print("RATE", summary.requests / summary.duration * 1e6)
end
"""


@dataclass(frozen=True)
class ClosedLoop:
    """What sends the requests."""

    name: str
    version: str
    requests_per_second: Callable[[Target, bytes, int, float], float]
    """Send a body again and again, by so many clients, for so many seconds; raise RuntimeError unless every
    answer is 200."""

    @property
    def used(self) -> dict[str, str]:
        """What a figure says of it."""
        return {self.name: self.version}


def closed_loop(build: Path) -> ClosedLoop:
    """Return wrk from Debian's packages; the clients of `bench.load` where those cannot be had."""
    try:
        root = debian.unpacked(build, *PACKAGES)
    except RuntimeError:
        return ClosedLoop(
            "clients in Python",
            "bench.load",
            lambda target, body, clients, seconds: requests_per_second(target, [body], clients, seconds),
        )

    def by_wrk(target: Target, body: bytes, clients: int, seconds: float) -> float:
        return _run(root, build, target, body, clients, seconds)

    version = next(root.glob("wrk_*.deb")).name.split("_")[1]
    return ClosedLoop("wrk", version, by_wrk)


def _run(root: Path, build: Path, target: Target, body: bytes, clients: int, seconds: float) -> float:
    sent, script = build.absolute() / "wrk-body", build.absolute() / "wrk.lua"
    sent.write_bytes(body)
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in target.headers.items())
    script.write_text(_SCRIPT.format(body=sent, headers=headers), "utf-8")
    command = [str(root / "usr/bin/wrk"), "--threads", "1", "--connections", str(clients)]
    command += ["--duration", f"{seconds:.0f}s", "--timeout", "60s", "--script", str(script)]
    command.append(f"http://127.0.0.1:{target.port}{target.path}")
    environment = {**os.environ, **debian.libraries(root)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"FAILED\s+(\d+)\s+RATE\s+([\d.]+)", ended.stdout)
    if ended.returncode or found is None or int(found[1]):
        raise RuntimeError(f"{' '.join(command)}: {ended.stdout[-500:]} {ended.stderr[-500:]}")
    return float(found[2])
