"""Words and phrases that must not be said."""

import re
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final, TypeAlias

from services.shield.matching.automaton import from_terms
from services.shield.matching.folding import WORD, alternatives
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import DenyListOptions

KIND: Final = "denied_term"

_Term: TypeAlias = tuple[Collection[str], ...]


def patterns(options: DenyListOptions) -> Iterator[Pattern]:
    """The terms as automata.

    Of terms that overlap in a text, the first is found; of those that start together, the longest.

    A whole word is one that no word character touches, where the term itself begins or ends with one: `c++` is
    found in `c++11`.
    """

    def edges(term: _Term) -> tuple[bool, bool]:
        return _is_word(term[0]), _is_word(term[-1])

    all_terms = (tuple(alternatives(term, case_sensitive=options.case_sensitive)) for term in options.terms)
    for (left, right), group in groupby(sorted(filter(None, all_terms), key=edges), edges):
        terms = list(group)
        yield Pattern(
            KIND,
            from_terms(terms),
            max_length=max(map(len, terms)),
            left=WORD if left and options.whole_words else "",
            right=WORD if right and options.whole_words else "",
        )


def _is_word(forms: Collection[str]) -> bool:
    return any(map(re.compile(f"[{WORD}]").match, forms))
