"""A slow shield on one text: works through what has gathered, in a task of its own, within its time."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from opentelemetry import trace

from .shield import ListenedLane, Progress, ShieldError, SlowShield

_log = structlog.stdlib.get_logger("shieldmesh.shield")

MOST_AT_ONCE: Final = 16_384
"""Code points that a shield is given in one inspection."""
WINDOW: Final = 65_536
"""Code points that may wait for a shield before its text is read no further."""


class Follower:
    """Feeds one lane of a slow shield, and says what came of it.

    Attributes:
        done: Whether it has said its last word.
        task: What it works in; ends soon after the last word.
    """

    def __init__(
        self,
        shield: SlowShield,
        span: trace.Span,
        report: Callable[[Progress], None],
        fail: Callable[[str], None],
        worked: Callable[[float], None],
    ) -> None:
        """Everything is called on the loop. After `fail` comes nothing; `worked` hears the seconds of each look."""
        self.done = False
        self._shield = shield
        self._span = span
        self._report = report
        self._fail = fail
        self._worked = worked
        self._waiting: list[str] = []
        self._characters = 0
        self._end = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.task = asyncio.create_task(self._follow())

    def put(self, text: str, *, end: bool) -> None:
        """Adds text; never waits."""
        self._waiting.append(text)
        self._characters += len(text)
        self._end = end
        if self._characters > WINDOW:
            self._room.clear()
        self._filled.set()

    async def room(self) -> None:
        """Returns when the shield is no more than a window behind, or done."""
        await self._room.wait()

    def stop(self) -> asyncio.Task[None]:
        """Ends it without another word; the task it worked in ends soon."""
        self.task.cancel()
        return self.task

    async def _follow(self) -> None:
        name = self._shield.rules.name
        try:
            with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
                await self._feed_all()
        except TimeoutError:
            self._give_up("SHIELD_TIMEOUT")
        except ShieldError as error:
            _log.error("shield failed", shield=name, reason=error.reason)
            self._give_up(error.reason)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a shield, its policy decides
            # Its type alone: a traceback could hold the text.
            _log.error("shield failed", shield=name, error_type=type(error).__name__)
            self._give_up("SHIELD_FAILED")
        finally:
            self.done = True
            self._room.set()

    async def _feed_all(self) -> None:
        async with self._shield.lane() as lane:
            if isinstance(lane, ListenedLane):
                lane.listen(self._report)
            while not self.done:
                await self._filled.wait()
                text, end = self._take()
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(self._shield.rules.timeout):
                        progress = await lane.feed(text, end=end)
                finally:
                    self._worked(time.perf_counter() - began)
                self.done = end
                if end or self._shield.rules.kind != "whole":  # a whole shield has its say at the end
                    self._report(progress)

    def _take(self) -> tuple[str, bool]:
        """The next piece, and whether it is the last."""
        gathered = "".join(self._waiting)
        text, rest = gathered[:MOST_AT_ONCE], gathered[MOST_AT_ONCE:]
        self._waiting = [rest] if rest else []
        self._characters = len(rest)
        if not rest:
            self._filled.clear()
        if self._characters <= WINDOW:
            self._room.set()
        return text, self._end and not rest

    def _give_up(self, error: str) -> None:
        self.done = True
        self._fail(error)
