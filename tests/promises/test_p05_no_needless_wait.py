"""P5: text that no match in the making can touch is released at once.

What a match in the making looks like is said here once more, kind by kind, without the engine: as a regular expression
for the beginnings of what is looked for, which has to hold at the end of what was sent.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pydoc_data.topics import topics
from random import Random
from typing import Final

import pytest

from services.shield.catalogue import Catalogue
from services.shield.shield import SlowShield
from shieldmesh.profile import struct
from shieldmesh.v1 import policy_pb2

CHARACTERS: Final = 200_000
LONGEST: Final = 120
"""Characters at the end of a text among which a beginning is looked for; none in this prose is longer."""

LETTER: Final = r"[A-Za-z\u00c0-\u024f\u0300-\u036f\u0370-\u052f]"
LOCAL: Final = rf"(?:{LETTER}|[0-9._%+'-])"
PHONE: Final = r"[0-9]*(?:[0-9][ .()/-]{1,2}[0-9]*){0,7}"
TERMS: Final = ("project bluebird", "operation nightfall", "if and only if", "c++", "()")


def beginnings(word: str, rest: str = "") -> str:
    """An expression for every beginning of a word, and for the whole word with a rest."""
    pieces = [re.escape(word[:length]) for length in range(1, len(word))]
    return "|".join([re.escape(word) + rest, *reversed(pieces)])


SECRETS: Final = {
    **dict.fromkeys(("AKIA", "ASIA", "ABIA", "ACCA"), "[A-Z0-9]{0,16}"),
    **dict.fromkeys(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "[A-Za-z0-9]*"),
    **{f"gl{kind}-": "[A-Za-z0-9._-]*" for kind in ("pat", "oas", "dt", "rt", "cbt", "ptt", "ft", "imt", "agent")},
    **{f"xox{kind}-": "[A-Za-z0-9-]*" for kind in "abeoprs"},
    **{f"{kind}k_{mode}_": "[A-Za-z0-9]*" for kind in "sr" for mode in ("live", "test")},
    **dict.fromkeys(("sq0csp-", "sq0atp-", "sq0idp-", "sk-", "AIza", "pypi-AgE", "AKC"), "[A-Za-z0-9_-]*"),
    **dict.fromkeys(("github_pat_", "whsec_", "npm_", "AC", "SK"), "[A-Za-z0-9_]*"),
    "xapp-": "[0-9]?(?:-[A-Za-z0-9-]*)?",
    "AccountKey=": "[A-Za-z0-9+/=]*",
    "hooks.slack.com/": "[A-Za-z0-9/_]*",
    "SG.": r"[A-Za-z0-9_.-]*",
    "eyJ": r"[A-Za-z0-9_.-]*",
}
OPEN: Final[Mapping[str, tuple[str, ...]]] = {
    "pii": (
        rf"(?<!{LOCAL}){LOCAL}+(?:@(?:{LETTER}|[0-9.-])*)?",
        r"(?<!\w)(?:\+|00?)" + PHONE,
        r"(?<![\w+])\(?" + PHONE,
        r"(?<![0-9])[2-6](?:[ -]?[0-9])*[ -]?",
        r"(?<![A-Za-z0-9])[A-Za-z]{1,2}",
        r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{1,2}(?:[ -]?[A-Za-z0-9])*[ -]?",
        r"(?<![\w:.])[0-9.]{1,16}",
        r"(?<![\w:.])[0-9A-Fa-f:]{1,40}(?:\.[0-9.]*)?",
    ),
    "secrets": (
        rf"(?<![A-Za-z0-9])(?:{'|'.join(beginnings(word, rest) for word, rest in SECRETS.items())})",
        r"(?<![A-Za-z0-9])[MNO][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_.-]*)?",
        r"(?<![A-Za-z0-9])[0-9a-f]{1,32}(?:-u?s?[0-9]*)?",
        r"(?<![A-Za-z0-9])[0-9]{1,10}(?::[A-Za-z0-9_-]*)?",
        rf"(?:{beginnings('://')}|://[^\s:/?#@]+:?[^\s:/?#@]*)",
        f"(?:{beginnings('-----BEGIN', '.*')})",
    ),
    "deny_list": (
        rf"(?i:(?<!\w)(?:{'|'.join(map(beginnings, TERMS[:3]))}))",
        # A term that ends in a sign is known with its last character.
        r"(?i:(?<!\w)c\+?)",
        r"\(",
    ),
    "url": (
        r"(?i:(?<![A-Za-z0-9])(?:h|ht|htt|https?|f|ft|ftp|ws?|wss))",
        r"(?i:(?<![A-Za-z0-9])(?:https?|ftp|wss?):[/\\]*(?:[^\s\"<>`^{|}()\[\]\\]*|\[[0-9a-f:.]*))",
    ),
    "invisible": (
        r"[\u00ad\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufeff\U0001f3f4\U000e0000-\U000e0fff]+",
    ),
}
OPTIONS: Final[Mapping[str, dict[str, object]]] = {
    "pii": {"region": "US"},
    "deny_list": {"terms": list(TERMS)},
    "url": {"allow": ["python.org"]},
}


def deltas(seed: int) -> Iterator[str]:
    """Python's own reference, in seeded random cuts: English prose with code, numbers, tables and addresses."""
    text, random, place = "".join(topics.values())[:CHARACTERS], Random(seed), 0
    while place < len(text):
        length = random.choice((1, 2, 3, 4, 5, 8, 13, 40))
        yield text[place : place + length]
        place += length


def longest_open(open_: re.Pattern[str], tail: str) -> int:
    """How many characters at the end of a text could be the beginning of a match."""
    shown = unicodedata.normalize("NFKC", tail).replace("\u2013", "-")
    found = open_.search(shown)
    return 0 if found is None else len(shown) - found.start()


@pytest.mark.parametrize("name", sorted(OPEN))
def test_prose_is_held_only_where_something_could_begin(name: str) -> None:
    """After each of thousands of deltas, no more is held than could be the beginning of a match."""
    spec = policy_pb2.ShieldSpec(
        name=name, type=name, action=policy_pb2.ACTION_REDACT, options=struct(OPTIONS.get(name, {}))
    )
    shield = Catalogue(capacity=1, default_timeout=1.0).build(spec)
    assert not isinstance(shield, SlowShield)
    lane = shield.lane()
    open_ = re.compile(rf"(?s:{'|'.join(OPEN[name])})\Z")
    seen, tail, closed = 0, "", 0
    for delta in deltas(seed=len(name)):
        seen += len(delta)
        tail = (tail + delta)[-LONGEST:]
        held = seen - lane.feed(delta, end=False).watermark
        could_be = longest_open(open_, tail)
        assert held <= could_be, (tail[-80:], held, could_be)
        closed += could_be == 0
    assert seen == CHARACTERS
    assert closed > 5_000
