"""What the model sees of a text: which words, short rows of words and short rows of letters are in it, by hash.

The same code serves training and use: what it gives for a text must never change while the weights stay the same.
"""

import re
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from services.shield.matching.folding import special
from services.shield.matching.view import View

BUCKETS: Final = 2**18
"""Weights of the model."""
Buckets: TypeAlias = npt.NDArray[np.uint64]

_TOKEN: Final = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_+")
_LETTERS: Final = (3, 4, 5)
_WORDS: Final = (1, 2, 3)
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(64 - (BUCKETS.bit_length() - 1))


def features(text: str) -> Buckets:
    """The numbers of the buckets that a text fills, rising; disguises of letters are taken off first."""
    tokens: list[str] = _TOKEN.findall(_shown(text).lower())
    tokens = ["0" if token.isdecimal() else token for token in tokens]
    words = np.array([crc32(token.encode("utf-8", "replace")) for token in tokens], dtype=np.uint64)
    letters = np.frombuffer(f" {' '.join(tokens)} ".encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    rows = [_rows(words, length, 7 + length) for length in _WORDS]
    rows += [_rows(letters, length, 77 + length) for length in _LETTERS]
    return np.unique(np.concatenate(rows))


def _shown(text: str) -> str:
    return text if text.isascii() or special().search(text) is None else View().feed(text)


def _rows(items: Buckets, length: int, salt: int) -> Buckets:
    """The buckets of all rows of so many items."""
    count = max(0, len(items) - length + 1)
    hashed = np.full(count, salt, dtype=np.uint64)
    for place in range(length):
        hashed = (hashed ^ items[place : place + count]) * _FACTOR
        hashed ^= hashed >> np.uint64(29)
    return (hashed * _FACTOR) >> _SHIFT
