"""Sums up what clients saw and processes used in a window of time. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from .load import Answers
from .processes import Use
from .turns import Turn


class Spread(NamedTuple):
    """The middle and the far end of some values, in seconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed."""

    tokens_per_second: float
    turns_per_second: float
    """Turns that finished."""
    cpu_per_token: dict[str, float]
    """Seconds by service."""
    cpu_per_turn: float | None
    """Seconds of all services; None when no turn finished."""
    cores: float
    """Processors that all services kept busy."""
    client: float
    """Processors that the client kept busy."""
    others: float
    """Processors that all else on the machine kept busy, the clients and scripted servers included."""
    tokens_per_delta: float
    """How many tokens came together: more when the mesh, or the machine, was busy."""
    first_token: Spread | None
    """From when a turn was due; None when none was in the window."""
    gap: Spread | None
    """Between the deltas of a turn."""
    memory: float
    """Bytes of all services beyond those before the load, for each stream that was open."""
    held: int
    """The most characters that shields held of a turn, as the mesh says itself."""
    failed: int
    errors: Sequence[str]
    """What the failures said, each kind once, a few of them."""

    @property
    def total_cpu_per_token(self) -> float:
        """Seconds of all services."""
        return sum(self.cpu_per_token.values())


def figures(answers: Answers, before: Use, begin: Use, end: Use) -> Figures:
    """What happened between `begin` and `end`; `before` is from before the load."""
    turns = answers.turns
    seconds = end.at - begin.at
    came = [count for turn in turns for count in _tokens(turn, begin.at, end.at)]
    tokens = sum(came)
    finished = sum(begin.at <= turn.finished < end.at for turn in turns if turn.finished is not None)
    cpu = {name: end.cpu[name] - begin.cpu[name] for name in end.cpu}
    ours = sum(cpu.values())
    streams = sum(turn.due < end.at and (turn.finished is None or turn.finished >= end.at) for turn in turns)
    grown = sum(end.resident.values()) - sum(before.resident.values())
    return Figures(
        tokens_per_second=tokens / seconds,
        turns_per_second=finished / seconds,
        cpu_per_token={name: used / max(tokens, 1) for name, used in cpu.items()},
        cpu_per_turn=ours / finished if finished else None,
        cores=ours / seconds,
        client=answers.cores,
        others=(end.busy - begin.busy - ours) / seconds,
        tokens_per_delta=tokens / max(len(came), 1),
        first_token=_spread(turn.times[0] - turn.due for turn in turns if turn.times and begin.at <= turn.due < end.at),
        gap=_spread(gap for turn in turns for gap in _gaps(turn, begin.at, end.at)),
        memory=grown / max(streams, 1),
        held=max((turn.held for turn in turns), default=0),
        failed=sum(bool(turn.error) for turn in turns),
        errors=sorted({turn.error for turn in turns if turn.error})[:3],
    )


def spread_of(rounds: Sequence[Figures]) -> float:
    """How far the costs of several runs lie apart, as a share of the middle one."""
    costs = [each.total_cpu_per_token for each in rounds]
    return (max(costs) - min(costs)) / (median(costs) or 1.0)


def _tokens(turn: Turn, begin: float, end: float) -> Iterator[int]:
    return (count for at, count in zip(turn.times, turn.tokens, strict=True) if begin <= at < end)


def _gaps(turn: Turn, begin: float, end: float) -> Iterator[float]:
    return (later - earlier for earlier, later in pairwise(turn.times) if begin <= later < end)


def _spread(values: Iterable[float]) -> Spread | None:
    given = sorted(values)
    return Spread(given[len(given) // 2], given[len(given) * 99 // 100]) if given else None
