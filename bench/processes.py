"""Start what is measured as processes of its own, wait until it answers, stop it by its id."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 180.0


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str], log: Path, *, port: int | None = None, ready: str = "/", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command`; yield once GET `ready` on `port` answers 200; stop it afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
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


def _wait(process: subprocess.Popen[bytes], command: list[str], port: int, path: str, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    sys.exit(f"{' '.join(command)} did not come up; its output:\n{log.read_text()}")


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
