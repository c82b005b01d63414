"""What a run showed: written as JSON, and read again to make the page."""

import os
import platform
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, Self

import grpc
from pydantic import TypeAdapter

from .measure import Observation

DIRECTORY: Final = Path(__file__).with_name("results")


class Range(NamedTuple):
    """What the rounds of a run showed of one value."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self | None:
        """None when there are no values."""
        return cls(median(values), min(values), max(values)) if values else None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    memory: int
    """Bytes."""
    kernel: str
    python: str
    grpcio: str


@dataclass(slots=True)
class Results:
    """A whole run."""

    command: str
    began: str
    """ISO 8601, UTC."""
    machine: Machine
    idle: float
    """Processors that all else on the machine kept busy before the first measurement."""
    seconds: float = 0.0
    """How long it took."""
    speeds: list[float] = field(default_factory=list[float])
    """What `interpreter` said before each system was started: on a shared machine it changes."""
    titles: dict[str, str] = field(default_factory=dict[str, str])
    """Of the systems, by name."""
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """Of the systems, by name."""
    scenarios: dict[str, str] = field(default_factory=dict[str, str])
    """What each scenario is, by name."""
    seen: dict[str, dict[str, list[Observation]]] = field(default_factory=dict[str, dict[str, list[Observation]]])
    """By system and scenario, a round after the other."""
    failures: dict[str, str] = field(default_factory=dict[str, str])
    """Why a system was not measured, or not in all rounds."""

    def rounds(self, system: str, scenario: str) -> list[Observation]:
        """What was seen; nothing where nothing was measured."""
        return self.seen.get(system, {}).get(scenario, [])

    def range(self, system: str, scenario: str, value: Callable[[Observation], float | None]) -> Range | None:
        """A value over all rounds."""
        return Range.of([it for each in self.rounds(system, scenario) if (it := value(each)) is not None])

    def ratio(
        self, system: str, other: str, scenario: str, value: Callable[[Observation], float | None]
    ) -> Range | None:
        """A value as a multiple of another system's, round by round."""
        pairs = zip(self.rounds(system, scenario), self.rounds(other, scenario), strict=False)
        values = ((value(one), value(two)) for one, two in pairs)
        return Range.of([one / two for one, two in values if one is not None and two])

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_JSON.dump_json(self, indent=1) + b"\n")


_JSON: Final = TypeAdapter(Results)


def read(path: Path) -> Results:
    """What `Results.write` wrote."""
    return _JSON.validate_json(path.read_bytes())


def this_machine() -> Machine:
    """Where we are."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return Machine(_processor(), cores, memory, platform.release(), platform.python_version(), grpc.__version__)


def interpreter() -> float:
    """How many rounds of a small loop Python runs in a second, in millions: the best of a few tries.

    Builds of Python are up to a half apart on the same machine, with the compiler's profile of it and without.
    """
    rounds = 100_000
    tries = timeit.repeat("it = Box(3)\ntotal = it.plus(4) + {'key': it.value}['key']", _BOX, number=rounds)
    return rounds / 1e6 / min(tries)


_BOX: Final = """
class Box:
    def __init__(self, value):
        self.value = value

    def plus(self, more):
        return self.value + more
"""


def _processor() -> str:
    return next(_fields("/proc/cpuinfo", "model name"), platform.machine())


def _fields(path: str, name: str) -> Iterator[str]:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            yield value.strip()


def cpu_per_token(seen: Observation) -> float | None:
    """Microseconds, of all processes of the system; None when it delivered nothing."""
    return seen.system.total_cpu_per_token * 1e6 if seen.system.tokens_per_second else None


def tokens_per_second(seen: Observation) -> float:
    """That were delivered."""
    return seen.system.tokens_per_second


def added_first_token(seen: Observation) -> float | None:
    """Milliseconds between the medians of the system and of the engine alone."""
    alone = seen.alone.first_token if seen.alone else None
    return (seen.system.first_token.p50 - alone.p50) * 1e3 if alone and seen.system.first_token else None


def first_token(seen: Observation) -> float | None:
    """Milliseconds, the median."""
    return seen.system.first_token.p50 * 1e3 if seen.system.first_token else None


def first_token_p99(seen: Observation) -> float | None:
    """Milliseconds."""
    return seen.system.first_token.p99 * 1e3 if seen.system.first_token else None


def together(seen: Observation) -> float | None:
    """Tokens that share a message; None when none came."""
    return seen.system.tokens_per_delta or None


def gap_p99(seen: Observation) -> float | None:
    """Milliseconds between the messages of a turn."""
    return seen.system.gap.p99 * 1e3 if seen.system.gap else None


def memory_per_stream(seen: Observation) -> float:
    """KiB."""
    return seen.system.memory / 1024


def of_engine(seen: Observation) -> float | None:
    """The tokens per second as a share of the engine's alone."""
    return seen.system.tokens_per_second / seen.alone.tokens_per_second if seen.alone else None


def held(seen: Observation) -> float:
    """The most characters that shields held of a turn at a time."""
    return seen.system.held


def cpu_of(service: str) -> Callable[[Observation], float | None]:
    """Microseconds of one service for a token."""
    return lambda seen: seen.system.cpu_per_token.get(service, 0.0) * 1e6
