"""Start what is measured as processes of its own, wait until it answers, stop it by its id."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

START_S = 180.0
OUTPUT_LINES = 30
CPU_ONLY = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
"""Environment of everything that is measured on the CPU: both sides see no GPU and no network."""


class StartError(Exception):
    """A process that is to be measured did not come up; its text ends with what it printed."""


def clean_environment(**more: str) -> dict[str, str]:
    """Return our environment and more, with bytecode cached: without it a start takes twice as long."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}, **more}


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str],
    log: Path,
    *,
    port: int | None = None,
    ready: str = "/",
    environment: Mapping[str, str] | None = None,
    told: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command`; yield once GET `ready` on `port` answers 200; stop it afterwards.

    One that is `told` has a pipe as its standard input.

    Raises `StartError` where that takes longer than three minutes, or the process ends.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if told else None,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment(**environment or {}),
        )
    try:
        if port is not None:
            _wait(process, command, port, ready, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _wait(process: subprocess.Popen[bytes], command: list[str], port: int, path: str, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and process.poll() is None:
        if answers(port, path):
            return
        time.sleep(0.1)
    output = "\n".join(log.read_text("utf-8", "replace").splitlines()[-OUTPUT_LINES:])
    raise StartError(f"{' '.join(command)} did not come up; its output ends:\n{output}")


def answers(port: int, path: str) -> bool:
    """Say whether GET `path` answers 200 on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def peer_python(name: str, build: Path) -> Path:
    """Return the interpreter of a peer's own environment, built from its lock under `build` if absent."""
    lock = Path(__file__).parent / "peers" / f"{name}.txt"
    environment = build / "peers" / name
    done = environment / ".ready"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        uv = str(Path(sys.executable).parent / "uv")
        python = str(environment / "bin" / "python")
        subprocess.run(
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(environment)], check=True
        )
        install = [uv, "pip", "sync", "-q", "--python", python, "--require-hashes", str(lock)]
        subprocess.run(install, check=True)
        done.touch()
    return (environment / "bin" / "python").absolute()


def installed(python: Path, *distributions: str) -> dict[str, str]:
    """Return the versions of these distributions in another environment."""
    code = (
        "import sys, importlib.metadata as m, json; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
    )
    found = subprocess.run(
        [str(python), "-c", code, *distributions], check=True, capture_output=True, text=True
    ).stdout
    return dict(zip(distributions, json.loads(found), strict=True))
