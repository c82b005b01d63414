"""What a character stands for, however it is disguised: the tables behind the normalised view of a text.

Compatibility forms (full-width, circled, mathematical letters and digits, ligatures) are taken apart as NFKD does;
digits of all scripts become ASCII; characters that show nothing are left out; letters of other scripts that look like
an ASCII letter become that letter; marks stay where they make another letter (as in ñ) and are left out where they
only decorate.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Final

INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""The inside of a character class: Unicode's Default_Ignorable_Code_Point. Zero-width characters, bidirectional
controls, tag characters, variation selectors, fillers."""

MARKS: Final = "\u0300-\u036f"
"""The inside of a character class: the marks of letters in a view, where each letter with a mark is two characters."""

WORD: Final = rf"\w{MARKS}"
"""The inside of a character class: what words consist of in a view."""

_LOOKALIKES: Final = (
    # Cyrillic, Greek and Armenian letters, dashes and slashes, each beside what it looks like in most typefaces: the
    # part of Unicode's confusables (UTS 39) with which whole words of ASCII can be written.
    ("аеорсухіјѕһԁԛԝѵүӏАВЕЗКМНОРСТУХІЈЅԌԚԜѴҮӀ", "aeopcyxijshdqwvylABE3KMHOPCTYXIJSGQWVYI"),
    ("αικνορυχγϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ", "aiknopuxycjABEZHIKMNOPTYXCJ"),
    ("օսհոցզԼՕՍ", "ouhngqLOU"),
    ("\u0131\u0261\u0251\u0269\u028b", "igaiv"),
    ("\u2010\u2012\u2013\u2212\u2044\u2215\u2236", "-" * 4 + "//:"),
)
_CHANGING: Final = (
    (0x80, 0x3400),
    (0xA000, 0xAC00),
    (0xF900, 0x17000),
    (0x1B000, 0x20000),
    (0x2F800, 0x2FA20),
    (0xE0000, 0xE1000),
)
"""Ranges outside of which every character stands for itself: ideographs, Korean syllables, what is not assigned."""


@cache
def special() -> re.Pattern[str]:
    """An expression that finds a character which does not stand for itself alone. Takes a tenth of a second once."""
    ranges: list[list[int]] = []
    ignored = _invisible()
    for code in (code for low, high in _CHANGING for code in range(low, high)):
        char = chr(code)
        if unicodedata.is_normalized("NFKD", char) and not is_mark(char) and _plain(char) == char and not ignored(char):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return re.compile(f"[{''.join(f'{chr(low)}-{chr(high)}' for low, high in ranges)}]")


@lru_cache(maxsize=4_096)
def fold(char: str) -> str:
    """What a character that is no mark stands for, in none to a few characters."""
    if _invisible()(char):
        return ""
    if not any(low <= ord(char) < high for low, high in _CHANGING):
        return char
    folded = ""
    for part in unicodedata.normalize("NFKD", char):
        folded += fold_mark(letter(folded), part) if is_mark(part) else _plain(part)
    return folded


def fold_mark(last: str, mark: str) -> str:
    """What a mark stands for behind a letter (or nothing): itself or nothing."""
    if last and len(unicodedata.normalize("NFC", last + mark)) == 1:
        return mark
    place = unicodedata.combining(mark)
    decorates = place == 1 or place >= 200 or unicodedata.category(mark) == "Me"
    return "" if decorates else mark


def letter(shown: str) -> str:
    """The last letter of a few characters of a view, with the marks that belong to it; nothing if there is none."""
    return unicodedata.normalize("NFC", shown)[-1:]


def is_mark(char: str) -> bool:
    """Whether what a character stands for depends on the one before it."""
    return unicodedata.category(char) in {"Mn", "Me"} and not _invisible()(char)


def alternatives(term: str, *, case_sensitive: bool) -> Iterator[frozenset[str]]:
    """What a view may show for a term, character by character.

    Case is ignored by each character's own upper and lower form, never by forms of another length.
    """
    last = ""
    for char in unicodedata.normalize("NFC", term):
        if is_mark(char):
            folded = [fold_mark(last, char)]
        else:
            shown = fold(char)
            forms = () if case_sensitive else map(fold, cases(char))
            folded = [shown, *(form for form in forms if len(form) == len(shown))]
        last = letter(last + folded[0])
        yield from map(frozenset, zip(*folded, strict=True))


def cases(char: str) -> tuple[str, ...]:
    """The character, its upper and its lower form, as far as they are one character and mean each other."""
    root = _caseless(char)
    return tuple({form for form in (char, root, root.upper()) if len(form) == 1 and _caseless(form) == root})


def _caseless(char: str) -> str:
    upper = char.upper()
    lower = upper.lower() if len(upper) == 1 else char.lower()
    return lower if len(lower) == 1 else char


def _plain(char: str) -> str:
    digit = unicodedata.decimal(char, None)
    return _lookalikes().get(char, char) if digit is None else str(digit)


@cache
def _lookalikes() -> dict[str, str]:
    return {char: plain for chars, plains in _LOOKALIKES for char, plain in zip(chars, plains, strict=True)}


@cache
def _invisible() -> Callable[[str], object]:
    return re.compile(f"[{INVISIBLE}]").match
