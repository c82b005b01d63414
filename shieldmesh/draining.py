"""How a service leaves: nothing new, time for what runs, and a word to those whose time is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import grpc
import structlog

from shieldmesh.interceptors.server import MeshInterceptor
from shieldmesh.interceptors.stopping import Stopping
from shieldmesh.settings import ServiceSettings

_LAST_WORDS: Final = 2.0
"""Seconds for the callers of cut work to read what there is of it, and why it ended; and for what was said to leave."""
_CLEANUP: Final = 5.0
"""Seconds for calls that were cut to clean up. Whoever ends the process has to allow for all of these."""

_log = structlog.stdlib.get_logger("shieldmesh.server")


class Work(Protocol):
    """Something that goes on without a call."""

    async def wait_idle(self) -> None:
        """Returns when nothing is left of it."""
        ...

    async def cut(self) -> None:
        """Ends what is left; whoever waits for it hears that the service stops (SERVICE_STOPPING)."""
        ...


class Background:
    """The work of a process that goes on without calls. It has the same time to finish as they have.

    Attributes:
        works: The kinds of it that there are.
    """

    def __init__(self) -> None:
        self.works: list[Work] = []

    def add(self, work: Work) -> None:
        """Makes this process wait for the work before it ends."""
        self.works.append(work)

    async def wait_idle(self) -> None:
        """Returns when nothing is left of it."""
        for work in self.works:
            await work.wait_idle()

    async def cut(self) -> None:
        """Ends what is left."""
        for work in self.works:
            await work.cut()


async def drain(
    server: grpc.aio.Server,
    around: MeshInterceptor,
    stopping: Stopping,
    background: Background,
    settings: ServiceSettings,
    *,
    not_serving: Callable[[], Awaitable[None]],
) -> None:
    """Stops a server; returns when its calls have ended and cleaned up.

    1. Health checks say NOT_SERVING, and load balancers get `drain_notice` to see it.
    2. No call is taken any more. Those that run, and what runs without one, have `drain_grace` to finish.
    3. What is left is cut: first the background, so that those who wait for it hear how far it came, then the calls.
    """
    _log.info("draining", running=around.running)
    await not_serving()
    await asyncio.sleep(settings.drain_notice)
    # gRPC takes no new calls from here on. It would cut calls without a word, so it never comes to that.
    closing = asyncio.create_task(server.stop(settings.drain_grace + _LAST_WORDS + _CLEANUP))
    if not await _within(settings.drain_grace, around.wait_idle, background.wait_idle):
        _log.warning("cut off", running=around.running)
        if background.works:
            await background.cut()
            await _within(_LAST_WORDS, around.wait_idle)
        stopping.cut()
        if not await _within(_CLEANUP, around.wait_idle):
            _log.warning("calls left behind", running=around.running)
    # The last handler is done, and its status may be on its way still. Those that watch the health wait for nothing.
    await server.stop(_LAST_WORDS)
    await closing


async def _within(seconds: float, *conditions: Callable[[], Awaitable[None]]) -> bool:
    """Waits for conditions, one after the other; whether all came true in time."""
    try:
        async with asyncio.timeout(seconds):
            for condition in conditions:
                await condition()
    except TimeoutError:
        return False
    return True
