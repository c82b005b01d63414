"""What processes use, from the operating system: Linux's /proc."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What processes had used at one moment, by name, what they started included."""

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
    trees = {name: tuple(tree(pid)) for name, pid in pids.items()}
    return Use(
        time.monotonic(),
        {name: sum(map(_cpu, members)) for name, members in trees.items()},
        {name: sum(map(_resident, members)) for name, members in trees.items()},
        _busy(),
    )


def tree(pid: int) -> Iterator[int]:
    """The process and those that it started, and theirs."""
    yield pid
    # One that ended meanwhile started nothing that still runs.
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def confine(pids: Mapping[str, int], cores: set[int]) -> None:
    """Has the processes and all their threads run on these processors alone."""
    for root in pids.values():
        for pid in tree(root):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)


def _cpu(pid: int) -> float:
    # The command's name, in brackets, may hold blanks; fields 14 to 17 are the time of the process and of its children
    # that have ended (proc_pid_stat(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _busy() -> float:
    # user, nice, system; idle and iowait; irq, softirq, steal (proc_stat(5)).
    times = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    return (sum(times) - times[3] - times[4]) / _TICKS
