"""Numbers by which states know people."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.us import ssn

from services.shield.matching.automaton import from_regex
from services.shield.matching.folding import WORD
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import Country

KIND: Final = "national_id"


class _Format(NamedTuple):
    regex: str
    max_length: int
    valid: Callable[[str], bool] | None


def patterns(countries: Iterable[Country]) -> Iterator[Pattern]:
    """The ids of these countries, with the separators in which people write them, and right where they can be checked.

    Found: Identifikationsnummer (de), DNI and NIE (es), NIR (fr), National Insurance number (gb), codice fiscale of a
    person (it), burgerservicenummer (nl), Social Security number with its separators (us). Not found: a Social Security
    number without any, as nothing tells it from another number of nine digits. One of nine such numbers passes the
    check of a burgerservicenummer by chance.
    """
    for country in dict.fromkeys(countries):
        regex, max_length, valid = _FORMATS[country]
        yield Pattern(KIND, from_regex(regex), max_length, left=WORD, right=WORD, valid=valid)


def _is_spanish(text: str) -> bool:
    return bool(dni.is_valid(text) or nie.is_valid(text))


def _is_american(text: str) -> bool:
    return bool(ssn.is_valid(text.replace(" ", "-")))


def _is_british(text: str) -> bool:
    """The first two letters are ones that are given out; there is no check digit."""
    return text[:2].upper() not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


_FORMATS: Final[dict[Country, _Format]] = {
    "de": _Format("[1-9][0-9]( ?[0-9]{3}){3}", 14, idnr.is_valid),
    "es": _Format("([0-9]{8}|[XYZxyz]-?[0-9]{7})-?[A-Za-z]", 11, _is_spanish),
    "fr": _Format(
        "[12] ?[0-9]{2} ?[0-9]{2} ?([0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        21,
        nir.is_valid,
    ),
    "gb": _Format(
        "[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z][A-CEGHJ-NPR-TW-Za-ceghj-npr-tw-z]( ?[0-9]{2}){3} ?[A-Da-d]", 13, _is_british
    ),
    "it": _Format(
        "[A-Za-z]{6}[0-9L-NP-Vl-np-v]{2}[A-Za-z][0-9L-NP-Vl-np-v]{2}[A-Za-z][0-9L-NP-Vl-np-v]{3}[A-Za-z]",
        16,
        codicefiscale.is_valid,
    ),
    "nl": _Format(r"[0-9]{4}\.?[0-9]{2}\.?[0-9]{3}|[0-9]{3}\.[0-9]{3}\.[0-9]{3}", 11, bsn.is_valid),
    "us": _Format("[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}", 11, _is_american),
}
