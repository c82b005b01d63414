"""Words and phrases that must not be said."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from services.shield.matching.automaton import from_terms
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import DenyListOptions

KIND: Final = "denied_term"
_WORD: Final = re.compile(r"\w")


def patterns(options: DenyListOptions) -> Iterator[Pattern]:
    """The terms as automata.

    Of terms that overlap in a text, the first is found; of those that start together, the longest.

    A whole word is one that no word character touches, where the term itself begins or ends with one: `c++` is
    found in `c++11`.
    """

    def edges(term: str) -> tuple[bool, bool]:
        return bool(_WORD.match(term[0])), bool(_WORD.match(term[-1]))

    for (left, right), group in groupby(sorted(options.terms, key=edges), edges):
        terms = list(group)
        yield Pattern(
            KIND,
            from_terms(terms, case_sensitive=options.case_sensitive),
            max_length=max(map(len, terms)),
            left=r"\w" if left and options.whole_words else "",
            right=r"\w" if right and options.whole_words else "",
        )
