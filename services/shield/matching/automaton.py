"""Deterministic automata over code points, built from a regular expression or from terms."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import interegular
from interegular.fsm import anything_else

DEAD: Final = -1
START: Final = 0


@dataclass(frozen=True, slots=True)
class Automaton:
    """A minimal view of a DFA: every state here can still reach an accepting one, START accepts nothing."""

    moves: tuple[Mapping[str, int], ...]
    """Per state: where each character leads."""
    others: tuple[int, ...]
    """Per state: where all other characters lead; DEAD for nowhere."""
    accepting: tuple[bool, ...]

    def goes_on(self, state: int) -> bool:
        """Whether anything can follow in this state."""
        return bool(self.moves[state]) or self.others[state] != DEAD


@lru_cache(maxsize=128)
def from_regex(regex: str) -> Automaton:
    """The automaton of a regular expression (no anchors, look-arounds or back-references).

    Raises:
        ValueError: it accepts the empty text or nothing, or begins with "any character".
    """
    machine = _Machine(regex)
    live = machine.live()
    if machine.initial not in live or machine.initial in machine.finals:
        raise ValueError("a pattern must match something, and not the empty text")
    order = [machine.initial, *sorted(live - {machine.initial})]
    numbers = {state: number for number, state in enumerate(order)}
    rows = [machine.row(state, numbers) for state in order]
    if rows[START][1] != DEAD:
        raise ValueError("a pattern must begin with known characters")
    return Automaton(
        moves=tuple(row for row, _ in rows),
        others=tuple(other for _, other in rows),
        accepting=tuple(state in machine.finals for state in order),
    )


def from_terms(terms: Iterable[Sequence[Collection[str]]]) -> Automaton:
    """The automaton of a set of terms: each a sequence of characters, each of those a choice of some.

    Built length by length: a state stands for the terms that a text of that length may begin.
    """
    given = list(terms)
    moves: list[dict[str, int]] = [{}]
    accepting = [False]
    level = {tuple(range(len(given))): START}
    for length in range(max(map(len, given), default=0)):
        following: dict[tuple[int, ...], int] = {}
        for members, state in level.items():
            by_char: dict[str, list[int]] = {}
            for member in members:
                if length < len(given[member]):
                    for char in given[member][length]:
                        by_char.setdefault(char, []).append(member)
            for char, some in by_char.items():
                target = following.setdefault(tuple(some), len(moves))
                if target == len(moves):
                    moves.append({})
                    accepting.append(any(len(given[member]) == length + 1 for member in some))
                moves[state][char] = target
        level = following
    return Automaton(tuple(moves), (DEAD,) * len(moves), tuple(accepting))


class _Machine:
    """interegular's automaton, typed."""

    def __init__(self, regex: str) -> None:
        fsm: Any = interegular.parse_pattern(regex).to_fsm()  # pyright: ignore[reportUnknownMemberType]  # Any: its types are partial
        fsm = fsm.reduce()
        self.initial: int = fsm.initial
        self.finals: frozenset[int] = frozenset(fsm.finals)
        self._map: dict[int, dict[int, int]] = fsm.map
        self._symbols: dict[str, int] = {char: symbol for char, symbol in fsm.alphabet.items() if isinstance(char, str)}
        self._other: int = fsm.alphabet[anything_else]

    def live(self) -> set[int]:
        """The states that can reach an accepting one."""
        before: dict[int, set[int]] = {}
        for state, row in self._map.items():
            for following in row.values():
                before.setdefault(following, set()).add(state)
        live, waiting = set(self.finals), list(self.finals)
        while waiting:
            for state in before.get(waiting.pop(), set()) - live:
                live.add(state)
                waiting.append(state)
        return live

    def row(self, state: int, numbers: Mapping[int, int]) -> tuple[dict[str, int], int]:
        """Where the characters lead from a state, and where all others do."""
        following = {symbol: numbers.get(target, DEAD) for symbol, target in self._map.get(state, {}).items()}
        other = following.get(self._other, DEAD)
        targets = ((char, following.get(symbol, DEAD)) for char, symbol in self._symbols.items())
        return {char: target for char, target in targets if target != other}, other
