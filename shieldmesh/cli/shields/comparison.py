"""How policies compare on recorded turns: what each would have done, and what it would have cost. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import mean
from typing import NamedTuple

from shieldmesh.cli.shields.playing import Played, Seen


class Difference(NamedTuple):
    """Something that not all policies answer in the same way."""

    turn: str
    shield: str
    kind: str
    start: int
    end: int
    actions: tuple[str, ...]
    """What each policy does, in their order; "" where it says nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a policy did to the turns.

    Attributes:
        blocked: Turns that it ended.
        failures: Failures of its shields.
        redacted: Findings that it replaced.
        held_mean: Characters that waited after a delta, in the mean.
        held_most: The most characters that waited after a delta.
        wait_mean: Seconds from a delta's sending to its release, in the mean; None when nothing was released.
        wait_most: The longest of these.
    """

    blocked: int
    failures: int
    redacted: int
    held_mean: float
    held_most: int
    wait_mean: float | None
    wait_most: float | None


def differences(turns: Mapping[str, Sequence[Played]]) -> list[Difference]:
    """What the policies see or answer differently, by turn and place; each turn is given as each policy played it."""
    return list(chain.from_iterable(_differences(turn, played) for turn, played in turns.items()))


def cost(turns: Sequence[Played]) -> Cost:
    """What one policy did to all its turns."""
    seen = [each for turn in turns for each in turn.seen]
    held = [characters for turn in turns for characters in turn.held]
    waits = [seconds for turn in turns for seconds in turn.waits]
    return Cost(
        blocked=sum(turn.blocked for turn in turns),
        failures=sum(each.failed for each in seen),
        redacted=sum(each.action == "redact" for each in seen),
        held_mean=mean(held) if held else 0.0,
        held_most=max(held, default=0),
        wait_mean=mean(waits) if waits else None,
        wait_most=max(waits, default=None),
    )


def _differences(turn: str, played: Sequence[Played]) -> list[Difference]:
    said = [{_what(each): each.action for each in one.seen} for one in played]
    found: list[Difference] = []
    for start, end, shield, kind in sorted(set(chain.from_iterable(said))):
        actions = tuple(one.get((start, end, shield, kind), "") for one in said)
        if len(set(actions)) > 1:
            found.append(Difference(turn, shield, kind, start, end, actions))
    return found


def _what(seen: Seen) -> tuple[int, int, str, str]:
    return seen.start, seen.end, seen.shield, seen.kind
