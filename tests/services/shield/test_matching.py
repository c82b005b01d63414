"""The match engine says the same about a text however it was cut, and no more than it can know."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.detectors import deny_list, invisible, pii, secrets, url
from services.shield.match import MatchShield
from services.shield.matching.automaton import from_regex, from_terms
from services.shield.matching.folding import cases
from services.shield.matching.pattern import Pattern
from services.shield.shield import Finding, Rules
from shieldmesh.profile.options import Country, DenyListOptions, InvisibleOptions, PiiOptions, SecretsOptions
from shieldmesh.v1 import policy_pb2
from tests.services.shield.examples import CUTS, cut, texts

REDACT = Rules("it", policy_pb2.ACTION_REDACT, {}, fails_open=False, timeout=1.0)

Check = Callable[[str], bool] | None


@dataclass(frozen=True)
class Small:
    """A small pattern whose regular expression `re` knows too."""

    regex: str
    longest: int
    left: str = ""
    right: str = ""
    valid: Check = None

    def pattern(self) -> Pattern:
        return Pattern("it", from_regex(self.regex), self.longest, self.left, self.right, self.valid)

    def expected(self, text: str) -> list[tuple[int, int]]:
        """What the definition says, with no thought for speed."""
        spans, start = list[tuple[int, int]](), 0
        while start < len(text):
            end = None if self.left and start and text[start - 1] in self.left else self._end(text, start)
            if end is not None:
                spans.append((start, end))
            start = start + 1 if end is None else end
        return spans

    def _end(self, text: str, start: int) -> int | None:
        for end in range(min(len(text), start + self.longest), start, -1):
            touched = bool(self.right) and end < len(text) and text[end] in self.right
            matches = re.fullmatch(self.regex, text[start:end], re.DOTALL) is not None
            if matches and not touched and (self.valid is None or self.valid(text[start:end])):
                return end
        return None


SMALL = (
    Small("ab*c", 6),
    Small("a(b|bc)*", 5, left="a"),
    Small("ab|abab|cab", 4, right="c"),
    Small("[ab][abc]*", 4, "c", "b", lambda text: len(text) % 2 == 0),
    Small("a[^b]*b", 8),
    Small("(a|ba)(c|cb)*", 7, right="a", valid=lambda text: text != "ac"),
)


def feed(shield: MatchShield, pieces: list[str]) -> list[Finding]:
    """What a shield finds in a text that comes in pieces."""
    lane, found, seen, mark = shield.lane(), list[Finding](), 0, 0
    for number, piece in enumerate(pieces):
        progress = lane.feed(piece, end=number == len(pieces) - 1)
        seen += len(piece)
        assert mark <= progress.decided <= progress.watermark <= seen
        assert all(finding.start >= mark for finding in progress.findings)
        mark = progress.decided
        found += progress.findings
    assert mark == seen
    return sorted(found)


@given(
    st.sampled_from(SMALL),
    st.text("abc", max_size=24),
    CUTS,
)
def test_finds_what_the_definition_says_however_the_text_is_cut(small: Small, text: str, cuts: list[int]) -> None:
    """The leftmost longest match between its boundaries that is valid, and then the next one behind it."""
    shield = MatchShield(REDACT, [small.pattern()])
    found = [(finding.start, finding.end) for finding in feed(shield, cut(text, cuts))]
    assert found == small.expected(text)


@given(st.lists(st.text("abC", min_size=1, max_size=4), min_size=1, max_size=6), st.text("abcABC", max_size=20), CUTS)
def test_finds_terms_without_regard_to_case(terms: list[str], text: str, cuts: list[int]) -> None:
    """A list of terms finds what a search for each of them would, the first and then the longest first."""
    shield = MatchShield(REDACT, list(deny_list.patterns(DenyListOptions(terms=tuple(terms), whole_words=False))))
    any_term = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
    found = [(finding.start, finding.end) for finding in feed(shield, cut(text, cuts))]
    assert found == [match.span() for match in re.finditer(any_term, text, re.IGNORECASE)]


@settings(max_examples=150)
@given(texts(), CUTS)
def test_built_in_shields_find_the_same_in_every_cut(text: str, cuts: list[int]) -> None:
    """Every built-in shield finds in any cut what it finds in the whole, and never what it had decided against."""
    for shield in built_in():
        assert feed(shield, cut(text, cuts)) == feed(shield, [text])


@settings(max_examples=60)
@given(texts(5), texts(5), texts(5))
def test_a_decision_stands_whatever_follows(text: str, one: str, other: str) -> None:
    """What is found, and what is cleared, before a watermark is the same for two continuations of a text."""
    for shield in built_in():
        first, second = shield.lane(), shield.lane()
        before, same = first.feed(text, end=False), second.feed(text, end=False)
        assert before == same
        ends = [sorted(lane.feed(more, end=True).findings) for lane, more in ((first, one), (second, other))]
        assert all(finding.start >= before.decided for findings in ends for finding in findings)
        assert [feed(shield, [text + more]) for more in (one, other)] == [
            sorted([*before.findings, *findings]) for findings in ends
        ]


@pytest.mark.parametrize(
    "text",
    [
        "Hello there. ",
        'He said: (quite loudly) "no", and left; ',
        "In the end, all was well! ",
        "你好世界",
        "a b c d ",
    ],
)
def test_prose_is_not_held(text: str) -> None:
    """Text in which nothing could be open is cleared to its last character."""
    for shield in built_in():
        lane = shield.lane()
        for char in text:
            lane.feed(char, end=False)
        assert lane.feed("", end=False).watermark == len(text)


def test_a_word_is_held_while_it_could_become_an_address() -> None:
    """The watermark is the start of the match that is still possible."""
    lane = MatchShield(REDACT, list(pii.patterns(PiiOptions()))).lane()
    assert lane.feed("mail to jane", end=False).watermark == 8
    assert lane.feed(" now", end=False).watermark == 13


def test_kinds_that_do_not_hold_leave_the_watermark_alone() -> None:
    """A kind that is only flagged is found, but nothing waits for it."""
    rules = Rules("it", policy_pb2.ACTION_REDACT, {"email": policy_pb2.ACTION_FLAG}, fails_open=False, timeout=1.0)
    lane = MatchShield(rules, list(pii.patterns(PiiOptions()))).lane()
    progress = lane.feed("jane@example", end=False)
    assert (progress.watermark, progress.decided) == (12, 0)
    assert [finding.kind for finding in lane.feed(".com", end=True).findings] == ["email"]


@pytest.mark.parametrize(
    "hostile",
    [
        *"a4",
        "1 ",
        "a.",
        "a@",
        "4-",
        "1.1.",
        "a::",
        "http://a.",
        "://a:",
        "-----BEGIN PRIVATE KEY-----",
        "+1 2 3 4 5 6 7 8 9 ",
    ],
)
def test_hostile_text_is_forgotten_as_it_goes(hostile: str) -> None:
    """However long a text goes on, a shield remembers at most the longest match and one character."""
    for shield in built_in():
        longest = max(pattern.max_length for pattern in shield.patterns)
        lane, total = shield.lane(), 0
        for _ in range(20):
            total += 100 * len(hostile)
            assert total - lane.feed(hostile * 100, end=False).decided <= longest + 1


def test_case_variants_mean_each_other() -> None:
    """Only forms of one character that lead back to it count as the same letter."""
    assert set(cases("k")) == {"k", "K"}
    assert cases("ß") == ("ß",)


@pytest.mark.parametrize("regex", ["a*", "[^a]b", "(a*)"])
def test_patterns_that_could_start_anywhere_are_refused(regex: str) -> None:
    """A pattern that matches nothing at all, or begins with any character, is no pattern."""
    with pytest.raises(ValueError, match="a pattern must"):
        from_regex(regex)


def test_a_trie_accepts_its_terms_alone() -> None:
    """The automaton of terms accepts exactly them."""
    automaton = from_terms(["ab", "abc"])
    assert [automaton.accepting[state] for state in range(4)] == [False, False, True, True]
    assert not automaton.goes_on(3)


@cache
def built_in() -> list[MatchShield]:
    """Every built-in shield."""
    terms = ("project bluebird", "bluebird", "c++", "fox")
    return [
        MatchShield(REDACT, list(pii.patterns(PiiOptions(region="US", countries=get_args(Country))))),
        MatchShield(REDACT, list(secrets.patterns(SecretsOptions()))),
        MatchShield(REDACT, list(deny_list.patterns(DenyListOptions(terms=terms)))),
        MatchShield(REDACT, [url.pattern(["example.com"])], normalise=False),
        MatchShield(REDACT, list(invisible.patterns(InvisibleOptions())), normalise=False),
    ]
