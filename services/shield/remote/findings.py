"""What remotes say they found, checked: they are trusted to judge a text, not to answer well."""

import math
import re
from typing import Final

from services.shield.shield import Finding, ShieldError

BROKEN: Final = "SHIELD_BROKEN"
NAMELESS: Final = "finding"
"""The kind of what has no name."""
_LONGEST: Final = 64
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STRANGE: Final = re.compile(r"[^a-z0-9_-]+")
_KIND: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def finding(kind: str, start: int, end: int, score: float) -> Finding:
    """A finding with a score of 0 to 1 and a kind of the form that policies can name: as it is, or `plain`.

    Raises:
        ShieldError: the span or the score is none.
    """
    if not 0 <= start <= end or math.isnan(score):
        raise ShieldError(BROKEN)
    return Finding(kind if _KIND.fullmatch(kind) else plain(kind), start, end, min(max(score, 0.0), 1.0))


def plain(name: str) -> str:
    """A name in small letters, digits, _ and -: `email_address` of "EmailAddress"."""
    return _STRANGE.sub("_", _HUMP.sub("_", name[: 4 * _LONGEST]).lower()).strip("_")[:_LONGEST] or NAMELESS
