"""One text under a set of shields: feeds them, and turns what fails into what the policy says."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final

import structlog

from shieldmesh.v1 import policy_pb2

from .follower import Follower
from .ledger import Ledger, Release
from .placeholders import Placeholders
from .shield import Progress, QuickLane, Shield, SlowShield
from .spans import ShieldSpans

_log = structlog.stdlib.get_logger("shieldmesh.shield")

SLICE: Final = 1_024
"""Code points that quick shields see at one go; between two the loop has time for others."""


class Inspection:
    """What a set of shields makes of one text. Feed it from one task, and leave its block when nobody waits any more.

    Attributes:
        seen: Code points of the text so far.
        ended: Whether the text is complete.
        changed: Whether something has happened since the last release.
    """

    def __init__(
        self,
        shields: Sequence[Shield],
        spans: ShieldSpans,
        *,
        part: policy_pb2.TextPart.ValueType = policy_pb2.TEXT_PART_CONTENT,
        pseudonym_key: bytes = b"",
        news: Callable[[], None] | None = None,
    ) -> None:
        """`part` is what the text is. `news` is called when there is something new for `release` to tell."""
        self.seen = 0
        self.ended = False
        self.changed = False
        self._rules = [shield.rules for shield in shields]
        self._spans = spans
        self._news = news
        self._placeholders = Placeholders(self._rules, pseudonym_key)
        self._ledger = Ledger(self._rules, self._placeholders.name)
        self._lanes: list[tuple[int, QuickLane]] = []
        self._followers: dict[int, Follower] = {}
        for number, shield in enumerate(shields):
            if part not in shield.rules.parts:
                self._ledger.excuse(number)
            elif isinstance(shield, SlowShield):
                self._followers[number] = self._follower(number, shield)
            else:
                self._lanes.append((number, shield.lane()))

    async def __aenter__(self) -> "Inspection":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops what still runs."""
        if tasks := [follower.stop() for follower in self._followers.values()]:
            await asyncio.wait(tasks)

    async def inspect(self, text: str) -> Release:
        """All that the shields say about a text that is complete."""
        first = await self.feed(text, end=True)
        if first.blocked or not self._followers:
            return first
        await asyncio.wait([follower.task for follower in self._followers.values()])
        return first.joined(self.release())

    async def feed(self, text: str, *, end: bool) -> Release:
        """Takes the next piece of the text; what may leave now, beyond what was told before."""
        await self.put(text, end=end)
        return self.release()

    async def put(self, text: str, *, end: bool) -> None:
        """Takes the next piece of the text."""
        self.ended = end
        if self._placeholders.keeps:
            self._placeholders.keep(text)
        if len(text) <= SLICE:
            self._feed(text, end=end)
        else:
            await self._feed_slices(text, end=end)
        for follower in self._followers.values():
            follower.put(text, end=end)
        self.changed = True
        if self._news is not None:
            self._news()

    async def room(self) -> None:
        """Returns when no shield is far behind."""
        for follower in self._followers.values():
            await follower.room()

    def release(self) -> Release:
        """What may leave now, beyond what was told before."""
        self.changed = False
        release = self._ledger.settle(self.seen)
        if release.findings or release.failures:
            self._spans.note(release)
        if self._placeholders.keeps:
            self._placeholders.forget(release.watermark)
        return release

    @property
    def open(self) -> bool:
        """Whether a shield has not said its last word."""
        return not all(follower.done for follower in self._followers.values())

    def holding(self) -> list[str]:
        """The names of the shields that hold text."""
        return self._ledger.holding(self.seen)

    def waited_for(self) -> list[int]:
        """The slow shields that alone hold text."""
        return self._ledger.waited_for(self.seen) if self._followers else []

    def slow(self) -> list[int]:
        """The slow shields that may hold text."""
        return [number for number in self._followers if self._rules[number].may_hold]

    def remark(self, shield: int, error: str) -> None:
        """Has it told that something is wrong with a shield that goes on as before."""
        self._ledger.remark(shield, error)
        self._change()

    def relax(self, shield: int, error: str) -> None:
        """Lets no text wait for a shield any longer."""
        self._ledger.relax(shield, error)
        self._change()

    def end(self, shield: int, error: str) -> None:
        """Blocks the text, as a shield took too long for the turn."""
        self._ledger.end(shield, error)
        self._change()

    def _follower(self, number: int, shield: SlowShield) -> Follower:
        return Follower(
            shield,
            self._spans.spans[number],
            partial(self._report, number),
            partial(self._fail_later, number),
            partial(self._spans.work, number),
        )

    def _report(self, number: int, progress: Progress) -> None:
        self._ledger.report(number, progress)
        self._change()

    def _fail_later(self, number: int, error: str) -> None:
        self._fail(number, error)
        self._change()

    def _change(self) -> None:
        self.changed = True
        if self._news is not None:
            self._news()

    async def _feed_slices(self, text: str, *, end: bool) -> None:
        worked = self._spans.worked
        before = list(worked)
        for begin in range(0, len(text), SLICE):
            self._feed(text[begin : begin + SLICE], end=end and begin + SLICE >= len(text))
            for number, _ in self._lanes:
                if worked[number] - before[number] > self._rules[number].timeout:
                    self._give_up(number, "SHIELD_TIMEOUT")
            await asyncio.sleep(0)

    def _feed(self, text: str, *, end: bool) -> None:
        self.seen += len(text)
        worked, now = self._spans.worked, time.perf_counter()
        for number, lane in self._lanes:
            try:
                self._ledger.report(number, lane.feed(text, end=end))
            except Exception as error:  # noqa: BLE001  # whatever goes wrong in a shield, its policy decides
                # Its type alone: a traceback could hold the text.
                _log.error("shield failed", shield=self._rules[number].name, error_type=type(error).__name__)
                self._give_up(number, "SHIELD_FAILED")
            began, now = now, time.perf_counter()
            worked[number] += now - began

    def _give_up(self, number: int, error: str) -> None:
        """Ends a quick shield, whoever goes through the lanes just now."""
        self._lanes = [each for each in self._lanes if each[0] != number]
        self._fail(number, error)

    def _fail(self, number: int, error: str) -> None:
        self._ledger.fail(number, error)
        self._spans.fail(number, error)
