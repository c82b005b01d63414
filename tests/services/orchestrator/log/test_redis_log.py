"""What is special about the turn log in Redis: replicas, and a Redis that goes away."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.log import redis_keys as keys
from services.orchestrator.log import redis_writer
from services.orchestrator.log.redis_log import open_redis
from services.orchestrator.log.turn_log import TurnLog
from services.orchestrator.redis_client import RedisUnusableError, redis_place, together
from services.orchestrator.running import RunningTurns
from shieldmesh.errors import DataLossError
from tests.redis_server import RedisServer, redis_server

from .test_turn_log import OWNER, TIMEOUT, read, read_into, text, write

KEEPS = ("--appendonly", "yes", "--appendfsync", "always")
"""Lets a Redis keep everything over a restart."""


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.clear()
    return shared


@asynccontextmanager
async def replica(server: RedisServer, *, lease: float = 600.0, backlog: int = 1_000_000) -> AsyncGenerator[TurnLog]:
    """The log as one of several processes opens it."""
    log = open_redis(redis_place(server.url), retention=3600.0, backlog=backlog, lease=lease)
    async with asyncio.timeout(TIMEOUT), log as opened:
        yield opened


async def test_a_turn_is_followed_at_another_replica(server: RedisServer) -> None:
    """Its readers get each event when it comes, whether they came before or after it, and then the end."""
    async with replica(server) as here, replica(server) as there:
        write(here, "t", 2)
        await here.find("t")
        async with aclosing(there.follow("t", 0)) as events:
            assert [await anext(events), await anext(events)] == [text(1), text(2)]
            for number in range(3, 50):
                coming = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                here.append("t", number, text(number))
                assert await coming == text(number)
            late = asyncio.ensure_future(read(there, "t", 40))
            here.seal("t")
            with pytest.raises(StopAsyncIteration):
                await anext(events)
        assert await late == [text(number) for number in range(41, 50)]


async def test_many_turns_at_once_over_replicas(server: RedisServer) -> None:
    """64 turns, written at two replicas and each read at both: every reader sees exactly its own 1..n."""
    async with replica(server) as here, replica(server) as there:
        logs = (here, there)

        async def run(number: int) -> None:
            log, turn = logs[number % 2], f"turn-{number}"
            log.begin(turn, OWNER)
            await log.find(turn)
            readers = [asyncio.ensure_future(read(each, turn, 0)) for each in logs]
            for sequence in range(1, 41):
                await log.room()
                log.append(turn, sequence, f"{number}:{sequence}".encode())
                await asyncio.sleep(0)
            log.seal(turn)
            for reader in readers:
                assert await reader == [f"{number}:{sequence}".encode() for sequence in range(1, 41)]

        await asyncio.gather(*map(run, range(64)))


async def test_a_wish_to_stop_reaches_the_writer(server: RedisServer) -> None:
    """Asked at another replica, the process that writes the turn hears it, and nobody else."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with replica(server) as here, replica(server) as there:
        here.listen(heard.put_nowait)
        there.listen(pytest.fail)
        write(here, "t", 1)
        await here.find("t")
        await there.ask_to_stop("t")
        await there.ask_to_stop("unknown")
        assert await heard.get() == "t"
        assert heard.empty()


async def test_who_cancels_elsewhere_waits_for_the_end(server: RedisServer) -> None:
    """A turn that another replica runs is stopped there; the call returns when its end is in the log."""
    async with replica(server) as here, replica(server) as there:
        here.listen(here.seal)
        write(here, "t", 1)
        await here.find("t")
        await RunningTurns(there).stop("t")
        found = await there.find("t")
        assert found is not None
        assert found.sealed


async def test_a_writer_presumed_dead_cannot_write(server: RedisServer) -> None:
    """Readers elsewhere hear that the turn is lost; what its writer says from then on is refused, here and there."""
    async with replica(server) as here, replica(server, lease=0.3) as there, raw(server) as redis:
        write(here, "t", 2)
        await here.find("t")
        following = asyncio.ensure_future(lost(there, "t"))
        await redis.delete(*[name async for name in redis.scan_iter("sm:writer:*")])
        assert await following == [text(1), text(2)]
        here.append("t", 3, text(3))
        assert await lost(here, "t") == [text(1), text(2)]
        here.seal("t")
        assert await lost(there, "t") == [text(1), text(2)]
        write(here, "later", 1)
        here.seal("later")
        assert await read(here, "later", 0) == [text(1)]


async def test_a_quiet_writer_is_alive(server: RedisServer) -> None:
    """A turn that says nothing for longer than the lease goes on for its readers elsewhere."""
    async with replica(server, lease=1.5) as here, replica(server, lease=1.5) as there:
        write(here, "t", 1)
        await here.find("t")
        reading = asyncio.ensure_future(read(there, "t", 0))
        await asyncio.sleep(4.0)
        here.append("t", 2, text(2))
        here.seal("t")
        assert await reading == [text(1), text(2)]


async def test_a_redis_that_lost_everything(server: RedisServer) -> None:
    """A turn that runs meanwhile ends as lost for its readers, at any replica; its next event is not given."""
    async with replica(server) as here, replica(server) as there:
        write(here, "t", 2)
        await here.find("t")
        reading = asyncio.ensure_future(lost(there, "t"))
        async with aclosing(here.follow("t", 0)) as events:
            assert [await anext(events), await anext(events)] == [text(1), text(2)]
            await asyncio.to_thread(server.restart)
            here.append("t", 3, text(3))
            with pytest.raises(DataLossError):
                await anext(events)
        assert await reading in ([], [text(1)], [text(1), text(2)])
        found = await there.find("t")
        assert found is not None
        assert (found.owner, found.sealed) == (OWNER, True)
        write(here, "later", 1)
        here.seal("later")
        await here.find("later")
        assert await read(there, "later", 0) == [text(1)]


async def test_a_redis_that_lost_the_end_of_a_turn(server: RedisServer) -> None:
    """As after a failover: nobody waits for an end that was written once and will not be written again."""
    async with replica(server) as here, replica(server) as there, raw(server) as redis:
        write(here, "t", 2)
        here.seal("t")
        await here.find("t")
        assert len(await read(there, "t", 0)) == 2
        kept = (await redis.xrange(keys.stream("t")))[:-1]
        await redis.delete(keys.stream("t"))
        for name, fields in kept:
            await redis.xadd(keys.stream("t"), fields, id=name)
        assert await lost(there, "t") == [text(1), text(2)]
        assert await lost(here, "t") == [text(1), text(2)]


async def test_a_redis_that_comes_back() -> None:
    """Turns go on over a restart of a Redis that keeps what it acknowledged: every event once, in order."""
    with redis_server(*KEEPS) as server:
        async with replica(server, lease=15.0) as here, replica(server, lease=15.0) as there:
            write(here, "t", 1)
            await here.find("t")
            reading = [asyncio.ensure_future(read(log, "t", 0)) for log in (here, there)]
            for number in range(2, 200):
                here.append("t", number, text(number))
                if number % 50 == 0:
                    restarting = asyncio.create_task(asyncio.to_thread(server.restart))
                    await asyncio.sleep(0)
                    here.append("other", number, b"")
                    await restarting
                await asyncio.sleep(0)
            here.seal("t")
            for reader in reading:
                assert await reader == [text(number) for number in range(1, 200)]


async def test_a_redis_that_stays_away(server: RedisServer) -> None:
    """After the time of the lease writers have room again, and their turns are lost; later ones are kept."""
    async with replica(server, lease=0.5, backlog=100) as log:
        write(log, "t", 1)
        await log.find("t")
        server.kill()
        try:
            log.append("t", 2, b"x" * 200)
            await log.room()
        finally:
            await asyncio.to_thread(server.start)
        assert await lost(log, "t") in ([], [text(1)])
        write(log, "later", 2)
        log.seal("later")
        assert await read(log, "later", 0) == [text(1), text(2)]


async def test_a_redis_that_is_not_there(tmp_path: Path) -> None:
    """Opening says where it was looked for, and what to see to."""
    with pytest.raises(RedisUnusableError, match=r"the Redis at unix://.*/none.sock cannot be used: ConnectionError"):
        async with open_redis(redis_place(f"unix://{tmp_path}/none.sock", "s3cret"), retention=1.0, backlog=1):
            pass


async def test_appending_twice_keeps_once(server: RedisServer) -> None:
    """What is written again, because no answer came, is there once; with a gap, or another's name, nothing is."""
    script = Path(redis_writer.__file__).with_name("redis_append.lua").read_text()
    async with raw(server) as redis:

        async def append(first: int, *events: bytes, writer: str = "w/1", ends: bool = False, before: int = 1) -> bytes:
            fixed = (writer, "tenant", "session", before, first, keys.news("t"), 60_000, 60_000, int(ends), b"end")
            (answer,) = await together(redis, [("EVAL", script, 1, keys.stream("t"), *fixed, *events)])
            assert isinstance(answer, bytes), answer
            return answer

        async def kept() -> list[bytes]:
            (entries,) = await together(redis, [("XRANGE", keys.stream("t"), "-", "+")])
            return [name for name, _ in entries]

        assert await append(1, b"1", b"2", before=0) == b"kept"
        assert await append(1, b"1", b"2", before=0) == b"kept"
        assert await append(2, b"2", b"3") == b"kept"
        assert await append(4, b"4", writer="w/2") == b"lost"
        assert await append(4, b"4", ends=True) == b"kept"
        assert await append(4, b"4", ends=True) == b"kept"
        assert await append(5, b"5") == b"lost"
        assert await kept() == [b"0-1", b"1-0", b"2-0", b"3-0", b"4-0", keys.END.encode()]
        await redis.delete(keys.stream("t"))
        assert await append(1, b"1", before=0) == b"kept"
        assert await append(3, b"3") == b"lost"
        assert await kept() == [b"0-1", b"1-0", keys.END.encode()]


async def test_all_keys_are_forgotten_by_themselves(server: RedisServer) -> None:
    """Whatever a process that dies leaves in Redis has an expiry."""
    async with replica(server) as log, raw(server) as redis:
        write(log, "running", 1)
        write(log, "over", 1)
        log.seal("over")
        await log.claim("key", "over", b"")
        await log.find("running")
        await log.find("over")
        names = [name async for name in redis.scan_iter()]
        assert len(names) == 4
        assert min([await redis.ttl(name) for name in names]) > 0


@asynccontextmanager
async def raw(server: RedisServer) -> AsyncGenerator[Any]:  # Any: redis-py is typed in part
    async with redis_place(server.url).open() as client:
        yield client


async def lost(log: TurnLog, turn: str) -> list[bytes]:
    """What there is of a turn that is lost."""
    heard: list[bytes] = []
    with pytest.raises(DataLossError) as failure:
        await read_into(heard, log, turn, 0)
    assert failure.value.reason == "TURN_LOST"
    return heard
