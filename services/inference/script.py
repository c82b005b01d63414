"""Scripted output, decided before it is played: how a text is cut into tokens, and where it ends."""

import random
import re
from collections.abc import Sequence
from typing import Final, Literal

from .backend import FinishReason

Cut = Literal["words", "characters", "random"]

# Like most tokenizers, a word takes the blanks before it along.
_WORD: Final = re.compile(r"\s*\S+|\s+")


def cut(text: str, how: Cut, *, seed: int = 0, longest: int = 8) -> list[str]:
    """The text in pieces that join to it again: words with the blanks before them, characters, or random lengths.

    Random pieces have 1 to `longest` characters; the same seed cuts the same text the same way.
    """
    if how == "words":
        return _WORD.findall(text)
    if how == "characters":
        return list(text)
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose; nothing secret hangs on it
    pieces: list[str] = []
    at = 0
    while at < len(text):
        length = chance.randint(1, longest)
        pieces.append(text[at : at + length])
        at += length
    return pieces


def until_end(
    pieces: Sequence[str], *, stop: Sequence[str] = (), max_tokens: int | None = None
) -> tuple[Sequence[str], FinishReason]:
    """The pieces that an engine would send, and why it ends: at a stop text, or after `max_tokens` pieces."""
    sent = _before_stop(pieces, stop) if stop else pieces
    if max_tokens is not None and len(sent) > max_tokens:
        return sent[:max_tokens], FinishReason.LENGTH
    return sent, FinishReason.STOP


def _before_stop(pieces: Sequence[str], stop: Sequence[str]) -> list[str]:
    text = "".join(pieces)
    end = min((at for at in map(text.find, stop) if at >= 0), default=len(text))
    kept: list[str] = []
    at = 0
    for piece in pieces:
        if at >= end:
            break
        kept.append(piece[: end - at])
        at += len(piece)
    return kept
