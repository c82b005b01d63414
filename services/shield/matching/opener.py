"""Regular expressions that find where any of several automata could start, at the speed of C.

They are the automata unrolled a few steps deep, so they are linear: their loops are possessive and bounded, the
branches of one automaton disjoint. They find every start from which the text is, or may become, a match, and few
others.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from .automaton import DEAD, START, Automaton
from .pattern import Pattern

MOST_BRANCHES = 3_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def opener(patterns: Iterable[Pattern]) -> re.Pattern[str]:
    """An expression that matches the first character of each possible start of any of the patterns."""
    by_boundary: dict[str, list[str]] = {}
    for pattern in patterns:
        by_boundary.setdefault(pattern.left, []).extend(
            f"{first}(?={rest})" for first, rest in _starts(pattern.automaton, pattern.max_length)
        )
    ways = [
        f"(?<![{left}])(?:{'|'.join(starts)})" if left else f"(?:{'|'.join(starts)})"
        for left, starts in by_boundary.items()
    ]
    return re.compile("|".join(ways), re.DOTALL)


def gate(patterns: Sequence[Pattern]) -> re.Pattern[str]:
    """An expression that matches at the first possible start of any of the patterns, to be searched for.

    It takes the character before the start with it, or begins at the start if it has a group; so it steps over the
    insides of words, where most patterns cannot start, with one look at a set of characters. It runs to the end of the
    text if, and only if, all of the text from the start on is the beginning of a match that is not complete.
    """
    inner: list[str] = []
    by_boundary: dict[str, list[str]] = {}
    skipped = set(map(chr, range(128)))
    for pattern in patterns:
        starts = _starts(pattern.automaton, pattern.max_length)
        eager = _completes(pattern)
        rests = [(first, f"(?={rest})" if eager else rest) for first, rest in starts]
        if pattern.left and all(map(re.compile(f"[{pattern.left}]").match, _LETTERS)):
            by_boundary.setdefault(pattern.left, []).extend(first + rest for first, rest in rests)
            skipped = set(filter(re.compile(f"[{pattern.left}]").match, skipped))
        else:
            boundary = f"(?<![{pattern.left}].)" if pattern.left else ""
            inner.extend(f"(?<={first}){boundary}{rest}" for first, rest in rests)
            skipped -= pattern.automaton.moves[START].keys()
    ways = [f"()(?:{'|'.join(inner)})"] if inner else []
    ways += [f"(?<![{left}])(?:{'|'.join(starts)})" for left, starts in by_boundary.items()]
    return re.compile(f"{_all_but(skipped)}(?:{'|'.join(ways)})", re.DOTALL)


def loops(automaton: Automaton) -> bool:
    """Whether a state leads to itself, so that the expressions here know no bound of its length."""
    return any(state in {*automaton.moves[state].values(), other} for state, other in enumerate(automaton.others))


def _starts(automaton: Automaton, max_length: int) -> list[tuple[str, str]]:
    """Per way out of the start: the first character and what may follow."""
    depth = _depth(automaton)
    ways = _ways(automaton, START)
    return [(_chars(ways[target]), _rest(automaton, target, depth, max_length)) for target in ways]


def _depth(automaton: Automaton) -> int:
    return max((d for d in (1, 2, 3, 4) if _branches(automaton, START, d) <= MOST_BRANCHES), default=1)


def _completes(pattern: Pattern) -> bool:
    """Whether a match can be known to be complete at the end of the text, within the depth of the expressions."""
    if pattern.right:
        return False
    automaton, reached = pattern.automaton, {START}
    for _ in range(_depth(automaton) + 1):
        reached |= {to for at in reached for to in (*automaton.moves[at].values(), automaton.others[at]) if to != DEAD}
    return any(automaton.accepting[state] and not automaton.goes_on(state) for state in reached)


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
    return _all_but(automaton.moves[state])


def _branches(automaton: Automaton, state: int, depth: int) -> int:
    if depth == 0 or automaton.accepting[state]:
        return 1
    targets = {*automaton.moves[state].values(), automaton.others[state]} - {DEAD, state}
    return 1 + sum(_branches(automaton, target, depth - 1) for target in targets)


def _chars(chars: Iterable[str]) -> str:
    return f"[{_inside(chars)}]"


def _all_but(chars: Iterable[str]) -> str:
    inside = _inside(chars)
    return f"[^{inside}]" if inside else "."


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
