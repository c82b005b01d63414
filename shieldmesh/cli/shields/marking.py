"""A text with spans underlined, for a terminal of some width."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

_SHOWS_NOTHING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SELECTORS: Final = ("\ufe00", "\ufe0f")


class Mark(NamedTuple):
    """A span to underline, in code points."""

    start: int
    end: int
    label: str
    style: str


def underlined(text: str, marks: Sequence[Mark], width: int) -> Iterator[Text]:
    """The lines that hold marks, each with its marks below; a line of dots stands for all between.

    Characters that show nothing are shown as one that does, so that they can be underlined.
    """
    skipped = False
    for start, end in _rows(text, width):
        below = [mark for mark in marks if mark.start < end and mark.end > start]
        if not below:
            skipped = True
            continue
        if skipped:
            yield Text("⋮", style="dim")
            skipped = False
        yield Text("".join(map(_visible, text[start:end])))
        yield from _underlines(text, start, end, below)
    if skipped and marks:
        yield Text("⋮", style="dim")


def _rows(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where the rows of a text begin and end: at ends of lines, and where the terminal does."""
    start = cells = 0
    for place, character in enumerate(text):
        size = cell_len(_visible(character))
        if cells + size > width:
            yield start, place
            start, cells = place, 0
        cells += size
        if character == "\n":
            yield start, place + 1
            start, cells = place + 1, 0
    yield start, len(text)


def _underlines(text: str, start: int, end: int, marks: Sequence[Mark]) -> Iterator[Text]:
    """The lines below a row, as few as keep the marks apart."""
    lines: list[Text] = []
    for mark in sorted(marks):
        column = _cells(text[start : max(mark.start, start)])
        size = _cells(text[max(mark.start, start) : min(mark.end, end)])
        label = mark.label if mark.start >= start else ""
        line = next((line for line in lines if line.cell_len <= column), None)
        if line is None:
            line = Text()
            lines.append(line)
        line.append(" " * (column - line.cell_len))
        line.append(label.ljust(size, "━") or "━", style=mark.style)
    yield from lines


def _cells(text: str) -> int:
    return sum(cell_len(_visible(character)) for character in text)


def _visible(character: str) -> str:
    """A character as it is shown; what shows nothing, or would move the cursor, as something that does not."""
    if character in "\n\t":
        return "↵" if character == "\n" else " "
    selector = _SELECTORS[0] <= character <= _SELECTORS[1]
    return "\N{REPLACEMENT CHARACTER}" if selector or unicodedata.category(character) in _SHOWS_NOTHING else character
