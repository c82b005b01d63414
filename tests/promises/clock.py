"""An event loop whose time stands still until the test moves it, so that tests of deadlines never race one."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

REAL_SECONDS = 30.0
"""Of real time, after which a test that waits for something has failed."""


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose timers ring when the test says so. I/O goes on in real time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0

    def time(self) -> float:
        """The loop's own time, in seconds."""
        return self._now

    def timers(self) -> list[float]:
        """When the timers ring, soonest first, in seconds from now."""
        pending = cast("list[asyncio.TimerHandle]", vars(self)["_scheduled"])  # asyncio's own heap
        return sorted(timer.when() - self._now for timer in pending if not timer.cancelled())

    def ring_next(self) -> None:
        """Moves the time to the next timer."""
        self._now += self.timers()[0]


def run(main: Callable[[SteppedLoop], Coroutine[Any, Any, None]]) -> None:
    """Runs a test under such a loop."""
    loop = SteppedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(loop))


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds, without any timer; fails after a real while."""
    give_up = time.monotonic() + REAL_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "it did not come true"
        await asyncio.sleep(0)
