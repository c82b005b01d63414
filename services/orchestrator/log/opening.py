"""Which turn log a setting names."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.orchestrator.database import is_memory
from services.orchestrator.redis_client import RedisUnusableError, is_redis, redis_place

from .file import LogFileError
from .memory import MEMORY, open_memory
from .redis_log import open_redis
from .sqlite import open_sqlite
from .turn_log import TurnLog


class TurnLogUnusableError(Exception):
    """The turn log cannot be used; the message says why and what to do."""


@asynccontextmanager
async def open_log(
    place: str,
    password: str = "",
    *,
    retention: float,
    backlog: int,
    claim_window: float,
    lease: float,
    memory: int = MEMORY,
) -> AsyncGenerator[TurnLog]:
    """The log at a place.

    That is a file, the URL of a Redis, `memory:`, or "" for a temporary file that goes with the process.

    Args:
        place: The place.
        password: Of a Redis.
        retention: Seconds that a turn is kept after its end.
        backlog: Bytes of events that may wait for the log before turns wait, too.
        claim_window: Seconds that a key stands for its turn.
        lease: Seconds after which a process that Redis does not hear of is presumed dead.
        memory: Bytes that a log in memory takes at most.

    Raises:
        TurnLogUnusableError: it cannot be used.
    """
    async with AsyncExitStack() as stack:
        try:
            if is_memory(place):
                log: TurnLog = await stack.enter_async_context(
                    open_memory(retention=retention, memory=memory, claim_window=claim_window)
                )
            elif is_redis(place):
                log = await stack.enter_async_context(
                    open_redis(
                        redis_place(place, password),
                        retention=retention,
                        backlog=backlog,
                        claim_window=claim_window,
                        lease=lease,
                    )
                )
            else:
                path = Path(place) if place else None
                log = await stack.enter_async_context(
                    open_sqlite(path, retention=retention, backlog=backlog, claim_window=claim_window)
                )
        except (LogFileError, RedisUnusableError) as error:
            raise TurnLogUnusableError(str(error)) from None
        yield log
