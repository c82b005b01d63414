"""Phone numbers, as libphonenumber knows them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import phonenumbers
from phonenumbers import Leniency, PhoneMetadata, PhoneNumber, PhoneNumberMatcher

from services.shield.matching.automaton import from_regex
from services.shield.matching.folding import WORD
from services.shield.matching.pattern import Pattern

# Digits in at most seven groups: whoever writes single digits apart gets no number, and hostile text few tries.
_GROUPS: Final = r"[0-9]+([ .()/-][ .()/-]?[0-9]+){0,6}"
_MIN_DIGITS: Final = 7
_MAX_LENGTH: Final = 32


def patterns(region: str) -> Iterator[Pattern]:
    """International numbers and, with a region, that region's national ones.

    A national number needs the grouping of its region or none at all, so dates and counts are left alone.
    """
    yield _pattern(rf"(\+|00){_GROUPS}", left=WORD, valid=_is_international)
    if region:
        valid = partial(_is_national, region=region, lengths=_lengths(region))
        yield _pattern(rf"\(?{_GROUPS}", left=f"{WORD}+", valid=valid)


def _pattern(regex: str, left: str, valid: Callable[[str], bool]) -> Pattern:
    return Pattern("phone", from_regex(regex), max_length=_MAX_LENGTH, left=left, right=WORD, valid=valid)


def _is_international(text: str) -> bool:
    number = "+" + text.removeprefix("00").removeprefix("+")
    digits = _digits(number)
    if len(digits) < _MIN_DIGITS or not any(map(phonenumbers.is_possible_number, _readings(digits))):
        return False
    return _matches(number, None, Leniency.VALID)


def _is_national(text: str, region: str, lengths: frozenset[int]) -> bool:
    if len(_digits(text)) not in lengths:
        return False
    return _matches(text, region, Leniency.STRICT_GROUPING)


def _matches(number: str, region: str | None, leniency: int) -> bool:
    # The matcher costs several times as much as these two, and most candidates end here.
    try:
        if not phonenumbers.is_valid_number(phonenumbers.parse(number, region)):
            return False
    except phonenumbers.NumberParseException:
        return False
    match = next(iter(PhoneNumberMatcher(number, region or "ZZ", leniency, 1)), None)
    return match is not None and (match.start, match.end) == (0, len(number))


def _readings(digits: str) -> Iterator[PhoneNumber]:
    """Country code and number, with a leading zero of the number kept (as in Italy) and dropped (as in "(0)")."""
    for length in (1, 2, 3):
        country, rest = int(digits[:length]), digits[length:]
        if country in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            yield PhoneNumber(country_code=country, national_number=int(rest))
            if rest.startswith("0"):
                yield PhoneNumber(country_code=country, national_number=int(rest), italian_leading_zero=True)


def _lengths(region: str) -> frozenset[int]:
    """How many digits the region's numbers have, with and without the prefix that is dialled inside it."""
    metadata = PhoneMetadata.metadata_for_region(region)
    if metadata is None or metadata.general_desc is None:
        return frozenset()
    prefix = len(metadata.national_prefix or "")
    lengths = metadata.general_desc.possible_length
    return frozenset(n for length in lengths for n in (length, length + prefix) if n >= _MIN_DIGITS)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))
