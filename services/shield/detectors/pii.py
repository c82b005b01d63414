"""Personal data: e-mail addresses, phone numbers, payment cards, IBANs, IP addresses, national ids."""

from collections.abc import Iterator
from typing import Final

from stdnum import iban, luhn

from services.shield.detectors import ip_address, national_id, phone
from services.shield.matching.automaton import from_regex
from services.shield.matching.folding import MARKS
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import PiiOptions

# Letters of the scripts that are written with spaces between words: Latin with its marks, Greek, Cyrillic. In others a
# sentence would look like the beginning of one long address.
_LETTERS: Final = f"A-Za-z\u00c0-\u024f{MARKS}\u0370-\u052f"
_LOCAL: Final = f"{_LETTERS}0-9._%+'-"


def patterns(options: PiiOptions) -> Iterator[Pattern]:
    """The patterns that the options ask for."""
    if "email" in options.kinds:
        yield _email()
    if "phone" in options.kinds:
        yield from phone.patterns(options.region)
    if "payment_card" in options.kinds:
        yield _payment_card()
    if "iban" in options.kinds:
        yield _iban()
    if "ip_address" in options.kinds:
        yield ip_address.pattern()
    if "national_id" in options.kinds:
        yield from national_id.patterns(options.countries)


def _email() -> Pattern:
    """`local@domain`, to the end of the last part that can be a top-level domain.

    An address begins where a run of its characters does: dots or dashes stuck to its front belong to it. One
    whose local part leaves no room in 320 characters (RFC 3696's limit for all of it) is not found.
    """
    regex = rf"[{_LOCAL}]+@([{_LETTERS}0-9-]+\.)+([{_LETTERS}][{_LETTERS}]+|xn--[A-Za-z0-9-]+)"
    return Pattern("email", from_regex(regex), max_length=320, left=_LOCAL)


def _payment_card() -> Pattern:
    """14 to 19 digits, alone or with single spaces or dashes between, of a card network, with a right check digit.

    A number inside a longer run of digits is not found: the run is another number. Digits that stand apart by one space
    or dash are tried from each group on, so what stands before or behind a card does not hide it.
    """
    regex = "[2-6]([ -]?[0-9]){13,18}"
    return Pattern("payment_card", from_regex(regex), max_length=37, left="0-9", right="0-9", valid=_is_card)


_CARD_LENGTHS: Final[tuple[tuple[int, int, frozenset[int]], ...]] = (
    # The first four digits, from and to, and how many digits in all: the networks' ranges of ISO/IEC 7812 numbers.
    (2200, 2204, frozenset({16, 17, 18, 19})),  # Mir
    (2221, 2720, frozenset({16})),  # Mastercard
    (3000, 3059, frozenset({14, 15, 16, 17, 18, 19})),  # Diners Club
    (3095, 3095, frozenset({14, 15, 16, 17, 18, 19})),  # Diners Club
    (3400, 3499, frozenset({15})),  # American Express
    (3528, 3589, frozenset({16, 17, 18, 19})),  # JCB
    (3600, 3699, frozenset({14, 15, 16, 17, 18, 19})),  # Diners Club
    (3700, 3799, frozenset({15})),  # American Express
    (3800, 3999, frozenset({14, 15, 16, 17, 18, 19})),  # Diners Club
    (4000, 4999, frozenset({16, 19})),  # Visa
    (5000, 5099, frozenset({16, 17, 18, 19})),  # Maestro
    (5100, 5599, frozenset({16})),  # Mastercard
    (5600, 6999, frozenset({16, 17, 18, 19})),  # Maestro, Discover, UnionPay, RuPay
)


def _is_card(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    issuer = int(digits[:4])
    if not any(low <= issuer <= high and len(digits) in lengths for low, high, lengths in _CARD_LENGTHS):
        return False
    return bool(luhn.is_valid(digits))


def _iban() -> Pattern:
    """An IBAN, in capitals or in small letters, alone or with single spaces or dashes between its characters."""
    regex = "[A-Z][A-Z][0-9][0-9]([ -]?[A-Z0-9]){11,30}|[a-z][a-z][0-9][0-9]([ -]?[a-z0-9]){11,30}"
    return Pattern("iban", from_regex(regex), max_length=64, left="A-Za-z0-9", right="A-Za-z0-9", valid=_is_iban)


def _is_iban(text: str) -> bool:
    return bool(iban.is_valid(text))
