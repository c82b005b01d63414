"""Recorded turns, a JSON object a line, as `shieldmesh shields replay` reads them; docs/shields.md has the format."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

FIELDS: Final = ("turn", "text", "deltas")
_WORD: Final = re.compile(r"\s*\S+|\s+")


class Delta(NamedTuple):
    """A piece of a text, and when it came, in seconds from the turn's beginning."""

    text: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """One turn of a transcript."""

    name: str
    deltas: tuple[Delta, ...]
    timed: bool
    """Whether it says when its deltas came."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(delta.text for delta in self.deltas)


class TranscriptError(Exception):
    """A transcript cannot be used; the message says where and why."""


def read(file: str, content: bytes) -> tuple[Recorded, ...]:
    """The turns of a transcript; `file` is what messages call it.

    Raises:
        TranscriptError: it is wrong.
    """
    turns = tuple(_turns(file, content))
    if not turns:
        raise TranscriptError(f'{file} holds no turns: expected a JSON object a line, such as {{"text": "Hello."}}')
    return turns


def words(text: str) -> tuple[Delta, ...]:
    """A text cut as models write: words, each with the space before it."""
    return tuple(Delta(word) for word in _WORD.findall(text))


def _turns(file: str, content: bytes) -> Iterator[Recorded]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield _turn(str(number), json.loads(line.decode()))
            except (UnicodeDecodeError, json.JSONDecodeError):
                raise TranscriptError(f"{file}:{number}: it is not a JSON object in UTF-8") from None
            except (_WrongError, RecursionError) as error:
                raise TranscriptError(f"{file}:{number}: {error}") from None


class _WrongError(Exception):
    """A field is wrong."""


def _turn(name: str, fields: Json) -> Recorded:
    if not isinstance(fields, dict):
        raise _WrongError("expected a JSON object")
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise _WrongError(f"{unknown[0]}: there is no such field: expected {', '.join(FIELDS)}")
    if ("text" in fields) == ("deltas" in fields):
        raise _WrongError("expected either text, which is cut into words, or deltas")
    name = _text("turn", fields.get("turn", name))
    if "text" in fields:
        return Recorded(name, words(_text("text", fields["text"])), timed=False)
    deltas = fields["deltas"]
    if not isinstance(deltas, list):
        raise _WrongError('deltas: expected a list of texts, or of objects such as {"text": "Hi", "at": 0.02}')
    timed = bool(deltas) and all(isinstance(delta, dict) for delta in deltas)
    plain = tuple(_delta(f"deltas[{index}]", delta, timed=timed) for index, delta in enumerate(deltas))
    for index, (before, after) in enumerate(pairwise(plain), start=1):
        if after.at < before.at:
            raise _WrongError(f"deltas[{index}].at: it lies before the one of the delta before")
    return Recorded(name, plain, timed)


def _delta(place: str, value: Json, *, timed: bool) -> Delta:
    if not timed:
        return Delta(_text(place, value))
    fields = value if isinstance(value, dict) else {}
    if set(fields) != {"text", "at"}:
        raise _WrongError(f"{place}: expected text and at (seconds from the turn's beginning)")
    at = fields["at"]
    if not isinstance(at, int | float) or not (math.isfinite(at) and at >= 0):
        raise _WrongError(f"{place}.at: expected seconds from the turn's beginning")
    return Delta(_text(f"{place}.text", fields["text"]), float(at))


def _text(place: str, value: Json) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"{place}: expected a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongError(f"{place}: it holds half of a surrogate pair, which no text can") from None
    return value
