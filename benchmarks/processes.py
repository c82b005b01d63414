"""What processes use, from the operating system: Linux's /proc."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What processes had used at one moment, by name."""

    at: float
    """On `time.monotonic()`'s clock."""
    cpu: Mapping[str, float]
    """Seconds of processor time, of users and kernel."""
    resident: Mapping[str, int]
    """Bytes of memory."""
    busy: float
    """Seconds of processor time that all processes of the machine had used."""


def look(pids: Mapping[str, int]) -> Use:
    """What these processes have used so far."""
    return Use(
        time.monotonic(),
        {name: _cpu(pid) for name, pid in pids.items()},
        {name: _resident(pid) for name, pid in pids.items()},
        _busy(),
    )


def _cpu(pid: int) -> float:
    # The command's name, in brackets, may hold blanks; utime and stime are fields 14 and 15 (proc_pid_stat(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _busy() -> float:
    # user, nice, system; idle and iowait; irq, softirq, steal (proc_stat(5)).
    times = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    return (sum(times) - times[3] - times[4]) / _TICKS
