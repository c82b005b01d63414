"""A text cut into overlapping windows while it is being written. Pure: the cut depends on the text alone.

A text is a row of units (sentences, words or characters), each with the blanks before it. A window is as many units as
are asked for, or fewer where more would be longer than a window may be; the next one begins some units before its end.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from shieldmesh.profile.options import Window

_BREAKS: Final = {
    "words": re.compile(r"\S(?=\s)"),
    # The end of a word, about which more is asked, or an ideographic full stop with the mark that closes behind it.
    "sentences": re.compile(r"\S(?=\s)|[。！？][」』”’）]?(?=[^。！？」』”’）])"),  # noqa: RUF001  # meant
    "characters": re.compile(r"(?s:.)"),
}
_CLOSING: Final = "\"'”’)]»*_」』）"  # noqa: RUF001  # meant
_FULL_STOPS: Final = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001  # meant
_LINE_ENDS: Final = "\n\r\u2028\u2029"


class Part(NamedTuple):
    """A window of a text, and where it begins, in code points."""

    text: str
    start: int


class Windows:
    """The windows of one text.

    Attributes:
        seen: Code points of the text so far.
        cleared: Text before this is in no window to come.
    """

    def __init__(self, window: Window) -> None:
        self.seen = 0
        self.cleared = 0
        self._size = window.size
        self._overlap = window.overlap
        self._longest = window.longest
        # What two windows share and one unit more always fit into one.
        self._longest_unit = window.longest // (window.overlap + 1)
        self._unit = window.unit
        self._break = _BREAKS[window.unit]
        self._text = ""
        """The text from `cleared` on."""
        self._ends: list[int] = []
        """Where units end in it that are complete."""
        self._looked = 0
        """Up to where in it breaks have been looked for."""
        self._fresh = False
        """Whether some of it was in no window yet."""

    def feed(self, text: str, *, end: bool) -> list[Part]:
        """Takes the next piece of the text; the windows that are complete now. Nothing follows after `end`."""
        self.seen += len(text)
        self._text += text
        self._fresh = self._fresh or bool(text)
        parts = list(self._complete())
        if end:
            if self._fresh:
                parts.append(Part(self._text, self.cleared))
            self._text, self.cleared = "", self.seen
        return parts

    def _complete(self) -> Iterator[Part]:
        while units := self._units():
            part = Part(self._text[: self._ends[units - 1]], self.cleared)
            self._fresh = len(self._text) > len(part.text)
            self._cut(self._ends[units - self._overlap - 1])
            yield part

    def _units(self) -> int:
        """How many units the next window has, 0 when that is not known yet."""
        while len(self._ends) < self._size and self._find():
            pass
        fit = bisect_right(self._ends, self._longest)
        whole = fit == self._size or fit < len(self._ends) or len(self._text) > self._longest
        return fit if whole else 0

    def _find(self) -> bool:
        """Looks for the end of one more unit."""
        begin = self._ends[-1] if self._ends else 0
        limit = begin + self._longest_unit
        for found in self._break.finditer(self._text, self._looked, limit + 1):
            self._looked = found.end()
            if self._is_end(begin, found.end()):
                self._ends.append(found.end())
                return True
        if len(self._text) > limit:
            self._ends.append(limit)
            self._looked = limit
            return True
        # What ends here may be known by the two characters that follow.
        self._looked = max(self._looked, len(self._text) - 2)
        return False

    def _is_end(self, begin: int, place: int) -> bool:
        """Whether a unit that begins there ends here, in front of another character."""
        if self._unit != "sentences" or self._text[place] in _LINE_ENDS:
            return True
        return self._text[begin:place].rstrip(_CLOSING).endswith(_FULL_STOPS)

    def _cut(self, place: int) -> None:
        self._text = self._text[place:]
        self.cleared += place
        self._looked -= place
        self._ends = [each - place for each in self._ends if each > place]
