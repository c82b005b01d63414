"""The sessions of many replicas, in Redis or Valkey: one hash for each session, so that Cluster can hold it.

```text
sm:session:{TENANT/ID}          created, used, expires, count, next, kept:NUMBER → a turn, turn:ID → when it began
sm:sessions:{TENANT}:ids        the tenant's sessions, to list them
sm:sessions:{TENANT}:expiry     the same by the time when they expire, to take out those that are gone
```
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from services.orchestrator.redis_client import FAILURES, Client, RedisPlace, RedisUnusableError
from shieldmesh.errors import UnavailableError

from .store import About, Entry, Key, unavailable

_OPEN: Final = """
-- KEYS[1] the session; ARGV: turn, now, when it expires, milliseconds until then
redis.call('HSETNX', KEYS[1], 'created', ARGV[2])
redis.call('HSETNX', KEYS[1], 'turn:' .. ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], 'used', ARGV[2], 'expires', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.call('HGETALL', KEYS[1])
"""
_KEEP: Final = """
-- KEYS[1] the session; ARGV: turn, now, when it expires, milliseconds until then, the turn's body, the time before
-- which turns began whose ids nobody needs, the numbers to drop
local key, turn = KEYS[1], 'turn:' .. ARGV[1]
local begun = redis.call('HGET', key, turn)
if not begun then
  return 0
end
if string.sub(begun, 1, 1) ~= 'k' then  -- or it is tried again, because the answer to the first time did not come
  local number = redis.call('HINCRBY', key, 'next', 1)
  redis.call('HSET', key, 'kept:' .. number, ARGV[5], turn, 'k' .. begun)
  redis.call('HINCRBY', key, 'count', 1)
end
for index = 7, #ARGV do
  if redis.call('HDEL', key, 'kept:' .. ARGV[index]) == 1 then
    redis.call('HINCRBY', key, 'count', -1)
  end
end
local fields = redis.call('HGETALL', key)
for index = 1, #fields, 2 do
  if string.sub(fields[index], 1, 5) == 'turn:' then
    local at = string.gsub(fields[index + 1], '^k', '')
    if tonumber(at) < tonumber(ARGV[6]) then
      redis.call('HDEL', key, fields[index])
    end
  end
end
redis.call('HSET', key, 'used', ARGV[2], 'expires', ARGV[3])
redis.call('PEXPIRE', key, ARGV[4])
return 1
"""
_INDEX: Final = """
-- KEYS: ids, expiry; ARGV: the session, when it expires, now
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3], 'LIMIT', 0, 16)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('ZREM', KEYS[2], gone)
end
"""
_DELETE: Final = """
-- KEYS[1] the session
local fields = redis.call('HKEYS', KEYS[1])
redis.call('DEL', KEYS[1])
return fields
"""
_KEPT: Final = b"kept:"
_TURN: Final = b"turn:"
_PAGE: Final = 100
_AT_ONCE: Final = 16
"""Commands that are on the way at the same time, each over a connection of its own."""


@asynccontextmanager
async def open_redis(place: RedisPlace, *, remembered: float) -> AsyncGenerator["RedisSessions"]:
    """The sessions in Redis.

    Args:
        place: Where it is.
        remembered: Seconds in which the ids of turns are needed that began.

    Raises:
        RedisUnusableError: Redis does not answer, or refuses.
    """
    async with place.open(patience=1.0) as client:
        store = RedisSessions(client, remembered)
        try:
            await store.about(Key("", ""))
        except UnavailableError:
            raise RedisUnusableError(
                f"the Redis at {place.shown} cannot be used: is it started, at this address, and does it let us in?"
            ) from None
        yield store


class RedisSessions:
    """See `SessionStore` and `open_redis`."""

    def __init__(self, client: Client, remembered: float) -> None:
        self._client: Any = client  # Any: its methods are typed in part
        self._remembered = remembered
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def open(self, key: Key, turn: str, retention: float) -> Sequence[Entry]:
        """See `SessionStore`."""
        await self._index(key, retention)
        now = time.time()
        flat = await self._run("EVAL", _OPEN, 1, _key(key), turn, now, now + retention, _milliseconds(retention))
        return _entries(dict(zip(flat[::2], flat[1::2], strict=True)))

    async def keep(self, key: Key, turn: str, body: bytes, *, drop: Collection[int], retention: float) -> bool:
        """See `SessionStore`."""
        await self._index(key, retention)
        now = time.time()
        times = (now, now + retention, _milliseconds(retention))
        kept = await self._run("EVAL", _KEEP, 1, _key(key), turn, *times, body, now - self._remembered, *drop)
        return bool(kept)

    async def entries(self, key: Key) -> Sequence[Entry] | None:
        """See `SessionStore`."""
        fields = await self._run("HGETALL", _key(key))
        return _entries(fields) if fields else None

    async def about(self, key: Key) -> About | None:
        """See `SessionStore`."""
        created, used, expires, count = await self._run("HMGET", _key(key), "created", "used", "expires", "count")
        if created is None:
            return None
        return About(key.session, float(created), float(used), float(expires), int(count or 0))

    async def sessions(self, tenant: str, after: str, most: int) -> Sequence[About]:
        """See `SessionStore`."""
        found: list[About] = []
        while True:
            start = f"({after}" if after else "-"
            names: list[bytes] = await self._run("ZRANGEBYLEX", _ids(tenant), start, "+", "LIMIT", 0, _PAGE)
            for name in names:
                after = name.decode()
                about = await self.about(Key(tenant, after))
                if about is not None:
                    found.append(about)
                if len(found) == most:
                    return found
            if len(names) < _PAGE:
                return found

    async def turns(self, key: Key) -> Sequence[str]:
        """See `SessionStore`."""
        return _turns(await self._run("HKEYS", _key(key)))

    async def delete(self, key: Key) -> Sequence[str] | None:
        """See `SessionStore`."""
        names = await self._run("EVAL", _DELETE, 1, _key(key))
        if key.tenant:
            await self._run("ZREM", _ids(key.tenant), key.session)
            await self._run("ZREM", _expiry(key.tenant), key.session)
        return _turns(names) if names else None

    async def _index(self, key: Key, retention: float) -> None:
        """Lets the session be found by its tenant."""
        if key.tenant:
            now = time.time()
            keys = (_ids(key.tenant), _expiry(key.tenant))
            await self._run("EVAL", _INDEX, 2, *keys, key.session, now + retention, now)

    async def _run(self, *command: str | bytes | float) -> Any:  # noqa: ANN401  # as the command answers
        try:
            async with self._at_once:
                return await self._client.execute_command(*command)
        except FAILURES:
            raise unavailable() from None


def _entries(fields: dict[bytes, bytes]) -> list[Entry]:
    kept = (Entry(int(name.removeprefix(_KEPT)), body) for name, body in fields.items() if name.startswith(_KEPT))
    return sorted(kept, key=lambda entry: entry.number)


def _turns(names: Sequence[bytes]) -> list[str]:
    return [name.removeprefix(_TURN).decode() for name in names if name.startswith(_TURN)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _key(key: Key) -> str:
    # No id holds a slash or a brace.
    return f"sm:session:{{{key.tenant}/{key.session}}}"


def _ids(tenant: str) -> str:
    return f"sm:sessions:{{{tenant}}}:ids"


def _expiry(tenant: str) -> str:
    return f"sm:sessions:{{{tenant}}}:expiry"
