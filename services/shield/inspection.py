"""One text under a set of shields: feeds them, and turns what fails into what the policy says."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from .ledger import Ledger, Release
from .shield import Shield
from .spans import ShieldSpans

_log = structlog.stdlib.get_logger("shieldmesh.shield")

SLICE: Final = 1_024
"""Code points that shields see at one go; between two the loop has time for others."""


class Inspection:
    """What a set of shields makes of one text. Feed it from one task.

    Attributes:
        seen: Code points of the text so far.
        ended: Whether the text is complete.
    """

    def __init__(self, shields: Sequence[Shield], spans: ShieldSpans) -> None:
        self.seen = 0
        self.ended = False
        self._shields = shields
        self._spans = spans
        self._ledger = Ledger([shield.rules for shield in shields])
        self._lanes = {number: shield.lane() for number, shield in enumerate(shields)}

    async def feed(self, text: str, *, end: bool) -> Release:
        """Takes the next piece of the text; what may leave now, beyond what was told before."""
        self.ended = end
        if len(text) <= SLICE:
            self._feed(text, end=end)
        else:
            await self._feed_slices(text, end=end)
        release = self._ledger.settle(self.seen)
        if release.findings or release.failures:
            self._spans.note(release)
        return release

    def holding(self) -> list[str]:
        """The names of the shields that hold text."""
        return self._ledger.holding(self.seen)

    async def _feed_slices(self, text: str, *, end: bool) -> None:
        spent = dict.fromkeys(self._lanes, 0.0)
        for begin in range(0, len(text), SLICE):
            self._feed(text[begin : begin + SLICE], end=end and begin + SLICE >= len(text), spent=spent)
            for number in [number for number in self._lanes if spent[number] > self._shields[number].rules.timeout]:
                self._fail(number, "SHIELD_TIMEOUT")
            await asyncio.sleep(0)

    def _feed(self, text: str, *, end: bool, spent: dict[int, float] | None = None) -> None:
        self.seen += len(text)
        for number, lane in tuple(self._lanes.items()):
            began = time.monotonic() if spent is not None else 0.0
            try:
                self._ledger.report(number, lane.feed(text, end=end))
            except Exception as error:  # noqa: BLE001  # whatever goes wrong in a shield, its policy decides
                # Its type alone: a traceback could hold the text.
                _log.error("shield failed", shield=self._shields[number].rules.name, error_type=type(error).__name__)
                self._fail(number, "SHIELD_FAILED")
            if spent is not None:
                spent[number] += time.monotonic() - began

    def _fail(self, number: int, error: str) -> None:
        del self._lanes[number]
        self._ledger.fail(number, error)
        self._spans.fail(number, error)
