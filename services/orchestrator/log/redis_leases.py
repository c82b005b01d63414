"""Which processes are alive, and what becomes of the turns of those that are not."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress

import structlog

from services.orchestrator.redis_client import FAILURES

from . import redis_keys as keys
from .followers import Followers
from .redis_asking import Asking
from .redis_streams import Streams

_log = structlog.stdlib.get_logger("shieldmesh.turn_log")


class Leases:
    """Looks after the writers of turns that are followed here, at a question for each writer."""

    def __init__(self, asking: Asking, streams: Streams, followers: Followers, *, lease: float) -> None:
        """`lease`: seconds after which a process that is not heard of is presumed dead."""
        self._asking = asking
        self._streams = streams
        self._followers = followers
        self._pause = lease / 3
        self._watched: dict[str, dict[str, int]] = {}
        """The turns of each writer, and how many follow them."""

    async def gone(self, writer: str) -> bool:
        """Whether nobody writes under this name any more.

        Who is missed is looked for once more after as long as writers take to announce themselves again: Redis may
        just have been away.

        Raises:
            FAILURES: Redis does not answer.
        """
        process, _, epoch = writer.partition("/")
        for pause in (self._pause, 0.0):
            if await self._asking.ask("GET", keys.lease(process)) == epoch.encode():
                return False
            await asyncio.sleep(pause)
        return True

    @contextmanager
    def watched(self, writer: str, turn: str) -> Generator[None]:
        """Ends the turn as lost when its writer goes, as long as the block lasts."""
        turns = self._watched.setdefault(writer, {})
        turns[turn] = turns.get(turn, 0) + 1
        try:
            yield
        finally:
            turns[turn] -= 1
            if not turns[turn]:
                del turns[turn]
            if not turns:
                self._watched.pop(writer, None)

    async def run(self) -> None:
        """Looks now and then, for ever."""
        while True:
            await asyncio.sleep(self._pause)
            async with asyncio.TaskGroup() as tasks:
                for writer in list(self._watched):
                    tasks.create_task(self._look(writer))

    async def _look(self, writer: str) -> None:
        with suppress(*FAILURES):  # whom Redis says nothing of may be alive
            if await self.gone(writer):
                turns = set(self._watched.get(writer, ()))
                await self._streams.lose(turns)
                _log.warning("turns are lost: the process that wrote them is gone", turns=len(turns))
                self._followers.tell(turns)
