"""What Linux says of a process: its memory, and the CPU time of its threads."""

import os
from dataclasses import dataclass
from pathlib import Path

MB = 1e6
TICKS = os.sysconf("SC_CLK_TCK")


def resident(pid: int | str = "self") -> float:
    """Return the bytes that are in memory now."""
    return _kilobytes(pid, "VmRSS") * 1024


def peak(pid: int | str = "self") -> float:
    """Return the most bytes that were in memory at once, since the start or since `forget_peak`."""
    return _kilobytes(pid, "VmHWM") * 1024


def forget_peak(pid: int) -> None:
    """Make the peak what is in memory now (5 in clear_refs, proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of a process so far."""

    main: float
    """Of its first thread, which in a server runs the event loop."""
    total: float

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        """Return what was used in between."""
        return CpuTime(self.main - earlier.main, self.total - earlier.total)


def cpu_time(pid: int) -> CpuTime:
    """Return what the main thread and the whole process have used, in ticks of 10 ms."""
    return CpuTime(_seconds(Path(f"/proc/{pid}/task/{pid}/stat")), _seconds(Path(f"/proc/{pid}/stat")))


def _seconds(stat: Path) -> float:
    fields = stat.read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _kilobytes(pid: int | str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise ValueError(f"/proc/{pid}/status has no {name}: the process has ended")
