"""A process is stopped only if it is the very one that was recorded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.cluster.onenode import cgroups, processes
from tests.cluster.onenode.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State(tmp_path / "cluster")
    state.make()
    return state


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.kill()
    child.wait()


def record(state: State, process: processes.Process) -> None:
    (state.run / "etcd.json").write_text(json.dumps(asdict(process)), encoding="utf-8")


def known(child: subprocess.Popen[bytes]) -> processes.Process:
    process = processes.identify(child.pid)
    assert process is not None
    return process


def test_the_name_of_a_process_may_hold_anything() -> None:
    fields = " ".join(str(number) for number in range(3, 52))
    assert processes.stat(f"7 (a) S (b) R {fields}") == ("R", 21)


def test_the_recorded_process_is_stopped(state: State, child: subprocess.Popen[bytes]) -> None:
    record(state, known(child))
    processes.stop(state, "etcd")
    assert processes.identify(child.pid) is None
    assert not (state.run / "etcd.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"started": 1}, id="the id is another process's by now"),
        pytest.param({"boot": "another"}, id="the machine was started anew"),
    ],
)
def test_another_process_of_the_same_id_is_left_alone(
    state: State, child: subprocess.Popen[bytes], changes: dict[str, int | str]
) -> None:
    record(state, replace(known(child), **changes))  # type: ignore[arg-type]
    assert processes.recorded(state, "etcd") is None
    processes.stop(state, "etcd")
    assert child.poll() is None


def test_a_process_that_ended_without_being_waited_for_is_not_alive() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert processes.identify(pid) is None
    os.waitpid(pid, 0)


HYBRID = """\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
UNIFIED = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "tracking", "number"),
    [
        pytest.param(HYBRID, "/sys/fs/cgroup/pids", 3, id="version 1, and 2 without controllers"),
        pytest.param(UNIFIED, "/sys/fs/cgroup", 1, id="version 2"),
    ],
)
def test_control_groups_of_both_versions_are_found(mounts: str, tracking: str, number: int) -> None:
    found = cgroups.parse(mounts)
    assert (str(found.tracking), len(found.roots)) == (tracking, number)
