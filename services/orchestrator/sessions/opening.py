"""Which store a setting names."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from services.orchestrator.database import IN_MEMORY, is_memory
from services.orchestrator.redis_client import is_redis, redis_place

from .redis import open_redis
from .sqlite import MEMORY, open_sqlite
from .store import REMEMBERED, SessionStore


def open_sessions(
    place: str, password: str = "", *, turn_retention: float, memory: int = MEMORY
) -> AbstractAsyncContextManager[SessionStore]:
    """The store at a place.

    That is a file, the URL of a Redis, `memory:`, or "" for a temporary file that goes with the process.

    Args:
        place: The place.
        password: Of a Redis.
        turn_retention: Seconds that the turn log keeps turns.
        memory: Bytes that sessions in memory take at most.

    Raises:
        RedisUnusableError: the URL is none of a Redis.
    """
    remembered = REMEMBERED + turn_retention
    if is_redis(place):
        return open_redis(redis_place(place, password), remembered=remembered)
    if is_memory(place):
        return open_sqlite(IN_MEMORY, remembered=remembered, memory=memory)
    return open_sqlite(Path(place) if place else None, remembered=remembered)


def beside(turn_log: str) -> str:
    """Where the sessions are when only the place of the turn log is set.

    In the same Redis, in memory, too, or in a file next to it.
    """
    if not turn_log or is_redis(turn_log) or is_memory(turn_log):
        return turn_log
    path = Path(turn_log)
    return str(path.with_name(f"{path.stem}-sessions{path.suffix}"))
