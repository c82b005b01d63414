"""A model as a shield: looks at each window of a text as soon as it is complete."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from services.shield.shield import Finding, Progress, Rules, SlowLane, SlowShield, lasting
from shieldmesh.profile.options import Window

from .model import Look, Seen
from .windows import Part, Windows

AT_ONCE: Final = 64
"""Windows of one text that a model is shown at once."""


class WindowShield(SlowShield):
    """Has a model look at the windows of each text."""

    def __init__(self, rules: Rules, look: Look, window: Window, *, at_once: int = AT_ONCE) -> None:
        """`at_once` is how many windows of one text the model is shown before it has said something about them."""
        super().__init__(rules)
        self._look = look
        self._window = window
        self._at_once = at_once

    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A fresh view of a new text."""
        return lasting(_WindowLane(self._look, Windows(self._window), self._at_once))


class _WindowLane:
    def __init__(self, look: Look, windows: Windows, at_once: int) -> None:
        self._look = look
        self._windows = windows
        self._at_once = at_once

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now: all that no window to come can change."""
        parts = [part for part in self._windows.feed(text, end=end) if not part.text.isspace()]
        findings: list[Finding] = []
        for begin in range(0, len(parts), self._at_once):
            findings += await look_at(self._look, parts[begin : begin + self._at_once])
        return Progress(tuple(findings), self._windows.cleared, self._windows.cleared)


async def look_at(look: Look, parts: Sequence[Part]) -> list[Finding]:
    """What is found in windows, which are looked at together.

    Raises:
        ShieldError: one of them could not be looked at.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(_look(look, part)) for part in parts]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [finding for each in looks for finding in each.result()]


async def _look(look: Look, part: Part) -> list[Finding]:
    return [_finding(part, seen) for seen in await look(part.text.strip())]


def _finding(part: Part, seen: Seen) -> Finding:
    """A finding is all of the window but the blanks around it."""
    start = part.start + len(part.text) - len(part.text.lstrip())
    return Finding(seen.kind, start, part.start + len(part.text.rstrip()), seen.score)
