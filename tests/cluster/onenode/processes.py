"""Processes that outlive the command that starts them, each with a record of which it is.

A record holds the process id together with the time at which that process began and the machine's boot: an id
alone may be another process's by now.
"""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.onenode import cgroups
from tests.cluster.onenode.state import State

POLL_S = 0.05
GRACE_S = 10.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """One process, known for certain; `started` is in clock ticks since `boot`."""

    pid: int
    started: int
    boot: str


def stat(text: str) -> tuple[str, int]:
    """Return state and start of a line of /proc/PID/stat; the name before them may hold anything."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def identify(pid: int) -> Process | None:
    """Return the living process of this id."""
    try:
        state, started = stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else Process(pid, started, BOOT_ID.read_text(encoding="utf-8").strip())


def recorded(state: State, component: str) -> Process | None:
    """Return a component's process if it is alive."""
    try:
        process = Process(**json.loads((state.run / f"{component}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    _reap(process.pid)
    return process if identify(process.pid) == process else None


def start(state: State, component: str, command: tuple[str, ...], environment: dict[str, str]) -> Process:
    """Start it in a session of its own, with its output appended to its log."""
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    pid = os.posix_spawnp(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(state.log(component)), appended & ~os.O_CLOEXEC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    cgroups.adopt(pid, component)
    process = identify(pid)
    if process is None:
        raise ProcessLookupError(f"{component} ended at once")
    draft = state.run / f".{component}.json"
    draft.write_text(json.dumps(asdict(process)), encoding="utf-8")
    draft.rename(state.run / f"{component}.json")
    return process


def stop(state: State, component: str) -> None:
    """Ask it to end, and make it end after a while."""
    process = recorded(state, component)
    if process is not None and _signal(process, signal.SIGTERM) and not _ended(process, GRACE_S):
        _signal(process, signal.SIGKILL)
        _ended(process, GRACE_S)
    (state.run / f"{component}.json").unlink(missing_ok=True)


def kill_members(within_s: float) -> frozenset[int]:
    """Kill all that is in the cluster's control groups; return what is alive even so."""
    deadline = time.monotonic() + within_s
    while True:
        alive = [process for pid in cgroups.members() if (process := identify(pid)) is not None]
        if not alive or time.monotonic() > deadline:
            return frozenset(process.pid for process in alive)
        for process in alive:
            _signal(process, signal.SIGKILL)
            _reap(process.pid)
        time.sleep(POLL_S)


def _signal(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; return False if it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _ended(process: Process, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        _reap(process.pid)
        if identify(process.pid) != process:
            return True
        time.sleep(POLL_S)
    return False


def _reap(pid: int) -> None:
    """Take the exit status if the process is this one's child; else it is init's to take."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
