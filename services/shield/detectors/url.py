"""Links to hosts that are not on a list."""

import re
import unicodedata
from collections.abc import Iterable
from functools import partial
from typing import Final

from services.shield.matching.automaton import from_regex
from services.shield.matching.pattern import Pattern

KIND: Final = "url"

MAX_LENGTH: Final = 2_048

# What ends a URL in texts and in Markdown. Its last character is no punctuation either. All else counts, letters and
# full stops of other scripts too, as browsers take them for parts of a host.
_ENDS: Final = '\x00-\x20\x7f-\xa0\u2000-\u200a\u2028\u2029\u3000"<>`^{|}()\\[\\]\\\\'
_INSIDE: Final = f"[^{_ENDS}]"
_LAST: Final = f"[^{_ENDS}.,:;!?'*_\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f\uff61]"
_SCHEME: Final = "([Hh][Tt][Tt][Pp]|[Ww][Ss])[Ss]?|[Ff][Tt][Pp]"


def pattern(allow: Iterable[str]) -> Pattern:
    """`http`, `https`, `ws`, `wss` and `ftp` URLs whose host neither is allowed nor lies below one that is.

    The text is read as it stands, without folding look-alikes: a host that only looks like an allowed one is another
    host. Not found: links without a scheme (`example.com/path`, `//example.com`) and other schemes. A longer URL is
    found in its first MAX_LENGTH characters.
    """
    end = f"{_INSIDE}*{_LAST}"
    regex = rf"({_SCHEME}):[/\\]+({end}|({end}@)?\[[0-9A-Fa-f:.]+\]({end})?)"
    valid = partial(_is_foreign, allow=frozenset(allow))
    return Pattern(KIND, from_regex(regex), max_length=MAX_LENGTH, left="A-Za-z0-9", valid=valid, longest_only=True)


def _is_foreign(url: str, allow: frozenset[str]) -> bool:
    # As browsers read it: any slashes, whatever stands before an @, and full stops of all kinds.
    authority = re.split(r"[/?#]", url.partition(":")[2].lstrip("/\\"), maxsplit=1)[0]
    host = unicodedata.normalize("NFKC", authority.rpartition("@")[2]).replace("\u3002", ".").lower()
    labels = host.partition(":")[0].rstrip(".").split(".")
    return not any(".".join(labels[first:]) in allow for first in range(len(labels)))
