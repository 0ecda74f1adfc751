"""What a measurement was taken on: no number means anything without it."""

import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Instructions that decide how fast a CPU multiplies matrices, as Linux names them."""


@dataclass(frozen=True)
class Machine:
    """The fields that explain a figure."""

    cpu: str
    cores: int
    """That this process may use."""
    instructions: list[str]
    memory_gb: float
    system: str
    python: str

    @classmethod
    def here(cls, proc: Path = Path("/proc")) -> "Machine":
        """Read them from Linux's /proc."""
        cpu = (proc / "cpuinfo").read_text("utf-8")
        flags = _field(cpu, "flags") or _field(cpu, "Features") or ""
        kilobytes = int((_field((proc / "meminfo").read_text("ascii"), "MemTotal") or "0").split()[0])
        return cls(
            cpu=_field(cpu, "model name") or platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            instructions=[flag for flag in FLAGS if flag in flags.split()],
            memory_gb=round(kilobytes / 1024**2, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
        )


def about(command: list[str]) -> dict[str, object]:
    """Return the command, the day and the machine, as they are written beside the figures."""
    return {
        "command": " ".join(["python -m bench", *command]),
        "day": datetime.now(UTC).date().isoformat(),
        "machine": asdict(Machine.here()),
    }


def _field(text: str, name: str) -> str | None:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
