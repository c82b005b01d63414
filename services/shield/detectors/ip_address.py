"""IP addresses."""

import ipaddress
from typing import Final

from services.shield.matching.automaton import from_regex
from services.shield.matching.folding import WORD
from services.shield.matching.pattern import Pattern

KIND: Final = "ip_address"

_V4: Final = r"[0-9]{1,3}(\.[0-9]{1,3}){3}"
_V6: Final = rf"([0-9A-Fa-f]{{0,4}}:){{2,7}}([0-9A-Fa-f]{{0,4}}|{_V4})"


def pattern() -> Pattern:
    """Addresses of versions 4 and 6, in all forms that `ipaddress` reads.

    Not found: addresses that are nobody's (unspecified, loopback), ones without any digit (`a::b` is more often code),
    and other forms of version 4 (as one number, in octal). A version number of four parts looks the same and is found.
    """
    return Pattern(
        KIND, from_regex(f"{_V4}|{_V6}"), max_length=45, left=f"{WORD}:.", right=f"{WORD}:", valid=_is_address
    )


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    has_digit = any(char in "0123456789" for char in text)
    return has_digit and not address.is_unspecified and not address.is_loopback
