"""A text as patterns see it: normalised while it is being written, with the way back to the original."""

from bisect import bisect_right
from operator import itemgetter
from typing import Final, NamedTuple

from .folding import fold, fold_mark, is_mark, letter


class Run(NamedTuple):
    """A part of a view and where it comes from: as many characters one by one, or all from a single one."""

    shown: int
    seen: int
    single: bool


_SHOWN: Final = itemgetter(0)


MOST_HIDDEN: Final = 1_000
"""Characters in a row that may show nothing; more of them show BREAK once, so that no match goes on for ever."""
BREAK: Final = "\ufffd"


class View:
    """The normalised view of one text: see `folding`. What is shown never depends on what follows.

    Attributes:
        shown: Code points of the view so far.
        seen: Code points of the text so far.
        last: The last letter of the view, with its marks.
    """

    __slots__ = ("_hidden", "_runs", "_straight", "last", "seen", "shown")

    def __init__(self, shown: int = 0, seen: int = 0, last: str = "") -> None:
        """A view that goes on from here; before, each character showed one as far back as is asked for."""
        self.shown = shown
        self.seen = seen
        self.last = last
        self._runs = [Run(0, seen - shown, single=False)]
        self._straight = True
        self._hidden = 0

    @property
    def even(self) -> bool:
        """Whether from the last place that may be asked for on, each character shows one, so far."""
        return self._straight and len(self._runs) == 1 and not self._hidden

    def feed(self, text: str) -> str:
        """Takes the next piece of the text; what it adds to the view."""
        return "".join(map(self._show, text))

    def origin(self, place: int) -> int:
        """Where in the text a character of the view comes from; the end of the text for the end of the view."""
        if place >= self.shown:
            return self.seen
        run = self._runs[bisect_right(self._runs, place, key=_SHOWN) - 1]
        return run.seen if run.single else run.seen + place - run.shown

    def forget(self, place: int) -> None:
        """No place before this one is asked for any more."""
        if place >= self.shown:
            self._runs = [Run(self.shown, self.seen, single=False)]
            self._straight = True
        elif len(self._runs) > 1:
            del self._runs[: bisect_right(self._runs, place, key=_SHOWN) - 1]

    def _show(self, char: str) -> str:
        if char.isascii():
            folded = self.last = char
        else:
            folded = fold_mark(self.last, char) if is_mark(char) else fold(char)
            self.last = letter(self.last + folded)
        self._hidden = 0 if folded else self._hidden + 1
        if self._hidden == MOST_HIDDEN:
            folded = self.last = BREAK
        if len(folded) != 1:
            self._straight = False
            if folded:
                self._runs.append(Run(self.shown, self.seen, single=True))
        elif not self._straight:
            self._straight = True
            self._runs.append(Run(self.shown, self.seen, single=False))
        self.seen += 1
        self.shown += len(folded)
        return folded
