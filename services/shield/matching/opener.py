"""One regular expression that finds where any of several automata could start, at the speed of C.

It is the automata unrolled a few steps deep, so it is linear: its loops are possessive and bounded, the branches of one
automaton disjoint. It finds every start from which the text is, or may become, a match, and few others.
"""

import re
from collections.abc import Iterable, Mapping

from .automaton import DEAD, START, Automaton
from .pattern import Pattern

MOST_BRANCHES = 3_000


def opener(patterns: Iterable[Pattern]) -> re.Pattern[str]:
    """An expression that matches the first character of each possible start of any of the patterns."""
    by_boundary: dict[str, list[str]] = {}
    for pattern in patterns:
        by_boundary.setdefault(pattern.left, []).extend(_starts(pattern.automaton, pattern.max_length))
    ways = [
        f"(?<![{left}])(?:{'|'.join(starts)})" if left else f"(?:{'|'.join(starts)})"
        for left, starts in by_boundary.items()
    ]
    return re.compile("|".join(ways), re.DOTALL)


def _starts(automaton: Automaton, max_length: int) -> list[str]:
    depth = max((d for d in (1, 2, 3, 4) if _branches(automaton, START, d) <= MOST_BRANCHES), default=1)
    ways = _ways(automaton, START)
    return [f"{_chars(ways[target])}(?={_rest(automaton, target, depth, max_length)})" for target in ways]


def _rest(automaton: Automaton, state: int, depth: int, max_length: int) -> str:
    """What may follow in a state: a branch per way out, or the end of what is known so far."""
    if automaton.accepting[state] or depth == 0:
        return ""
    ways = _ways(automaton, state)
    other = automaton.others[state]
    loop = ""
    if state in ways or other == state:
        loop = f"{_way(automaton, ways, state, state)}{{0,{max_length}}}+"
    targets = sorted({*ways, other} - {state, DEAD})
    branches = [
        f"{_way(automaton, ways, state, target)}{_rest(automaton, target, depth - 1, max_length)}" for target in targets
    ]
    return rf"{loop}(?:{'|'.join([*branches, chr(92) + 'Z'])})"


def _ways(automaton: Automaton, state: int) -> Mapping[int, set[str]]:
    ways: dict[int, set[str]] = {}
    for char, target in automaton.moves[state].items():
        if target != DEAD:
            ways.setdefault(target, set()).add(char)
    return ways


def _way(automaton: Automaton, ways: Mapping[int, set[str]], state: int, target: int) -> str:
    if automaton.others[state] != target:
        return _chars(ways[target])
    return f"[^{_inside(automaton.moves[state])}]" if automaton.moves[state] else "."


def _branches(automaton: Automaton, state: int, depth: int) -> int:
    if depth == 0 or automaton.accepting[state]:
        return 1
    targets = {*automaton.moves[state].values(), automaton.others[state]} - {DEAD, state}
    return 1 + sum(_branches(automaton, target, depth - 1) for target in targets)


def _chars(chars: Iterable[str]) -> str:
    return f"[{_inside(chars)}]"


def _inside(chars: Iterable[str]) -> str:
    ranges: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(_range(low, high) for low, high in ranges)


def _range(low: int, high: int) -> str:
    ends = f"{re.escape(chr(low))}-{re.escape(chr(high))}"
    return re.escape(chr(low)) if low == high else ends
