"""Texts for the shield tests: things to find, things that nearly are, and what stands around them."""

from typing import Final

from hypothesis import strategies as st

CARD: Final = "4111 1111 1111 1111"
EMAIL: Final = "jane.doe@example.com"
PHONE: Final = "+1 (415) 555-2671"
IBAN: Final = "DE89 3704 0044 0532 0130 00"
KEY: Final = """-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEA1234567890abcdefghij
qwertyuiopasdf==
-----END RSA PRIVATE KEY-----"""
MATCHES: Final = (
    CARD,
    "5555-5555-5555-4444",
    EMAIL,
    PHONE,
    "415-555-2671",
    IBAN,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "sk-proj-abc123abc123abc123",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    KEY,
    "project bluebird",
    "Bluebird",
    "https://evil.test/?card=4111111111111111",
    "192.168.2.10",
    "AB 12 34 56 C",
    "536-90-4399",
    "postgres://jane:pa55@example.com/",
    "\u200b\u202e",
    "".join(chr(0xE0000 + ord(char)) for char in "fox"),
)
NEAR_MATCHES: Final = (
    "4111 1111 1111 1112",
    "4111 1111 1111 1111 1",
    "41111111111111119",
    "jane.doe@",
    "a.b.c@d",
    "+1 415 555",
    "DE89 3704 0044 0532 0130 01",
    "sk-",
    "ghp_short",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----END",
    "project",
    "project bluebirds",
    "2024-11-21 08:07",
    "eyJhbGciOi.eyJ",
    "https://example.com/a?b.",
    "https://",
    "2001:db8::",
    "\u200d",
    "e\u0301\ufb01\u2026\u00bd",
    "an\u0303o",
    "ano",
    "İstanbul ß K",
    "Grüße 你好 👩‍👩‍👧",
)
PROSE: Final = (
    "The quick brown fox. ",
    "and then, ",
    "(see 3.14) ",
    "a",
    " ",
    "\n",
    "x@",
    "-",
    "1",
    "+",
    "4",
    "e",
    ".",
)


def texts(max_parts: int = 12) -> st.SearchStrategy[str]:
    """Texts of prose, matches, near-matches, pieces of matches and any characters."""
    whole = st.sampled_from(MATCHES + NEAR_MATCHES + PROSE)
    piece = st.builds(_slice, st.sampled_from(MATCHES), st.integers(0, 40), st.integers(0, 40))
    part = st.one_of(whole, whole, piece, st.text(max_size=4))
    return st.lists(part, max_size=max_parts).map("".join)


def _slice(text: str, one: int, other: int) -> str:
    return text[min(one, other) : max(one, other)]


def cut(text: str, cuts: list[int]) -> list[str]:
    """The text, cut at these places (modulo its length)."""
    places = sorted({place % (len(text) + 1) for place in cuts})
    return [text[low:high] for low, high in zip([0, *places], [*places, len(text)], strict=True)]


CUTS: Final = st.lists(st.integers(0, 10_000), max_size=40)

INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\u2066\ufe0f\U000e0041\U000e0101"
DECORATION: Final = "\u0332\u0336\u20e3\u0489"
LOOKALIKES: Final = dict(zip("aceopxysijhABEHKMOPTX", "асеорхуѕіјһАВЕНКМОРТХ", strict=True))  # noqa: RUF001


@st.composite
def disguises(draw: st.DrawFn, text: str) -> str:
    """The text as someone might write it who wants it to be read, but not found."""
    ways = draw(st.lists(st.integers(0, 6), min_size=len(text), max_size=len(text)))
    return "".join(_disguise(char, way) for char, way in zip(text, ways, strict=True))


def _disguise(char: str, way: int) -> str:
    digits = {1: 0xFF10, 2: 0x1D7CE, 5: 0x0660}  # full-width, mathematical, Arabic-Indic
    if way in digits and char.isdigit():
        return chr(digits[way] + int(char))
    if way == 1 and "!" <= char <= "~":
        return chr(ord(char) + 0xFEE0)
    if way == 2:
        return LOOKALIKES.get(char, char)
    if way == 3:
        return char + INVISIBLE[ord(char) % len(INVISIBLE)]
    if way == 4 and char.isalnum():
        return char + DECORATION[ord(char) % len(DECORATION)]
    return char
