"""What every turn log does."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from services.orchestrator.log.memory import open_memory
from services.orchestrator.log.redis_log import open_redis
from services.orchestrator.log.sqlite import open_sqlite
from services.orchestrator.log.turn_log import Claim, Owner, TurnLog
from services.orchestrator.redis_client import redis_place
from shieldmesh.errors import DataLossError, Hop, MeshError, UnavailableError
from tests.redis_server import RedisServer, redis_server

TIMEOUT = 60.0
LEASE = 0.6
"""Short, for turns that nobody writes any more to be missed soon."""
OWNER = Owner("acme", "s-1")
outlives = pytest.mark.parametrize("open_log", ["sqlite", "redis"], indirect=True)
"""What is kept outside of the process: it waits for its place there, and is there for the next process."""


class Open(Protocol):
    """Opens a log of the kind under test: the same one each time."""

    def __call__(
        self, *, retention: float = 3600.0, backlog: int = 1_000_000, claim_window: float = 3600.0
    ) -> AbstractAsyncContextManager[TurnLog]: ...


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "redis", "memory"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opening(
        *, retention: float = 3600.0, backlog: int = 1_000_000, claim_window: float = 3600.0
    ) -> AsyncGenerator[TurnLog]:
        log: AbstractAsyncContextManager[TurnLog]
        if request.param == "sqlite":
            path = tmp_path / "turns.db"
            log = open_sqlite(path, retention=retention, backlog=backlog, claim_window=claim_window)
        elif request.param == "memory":
            log = open_memory(retention=retention, claim_window=claim_window)
        else:
            log = open_redis(place, retention=retention, backlog=backlog, claim_window=claim_window, lease=LEASE)
        async with asyncio.timeout(TIMEOUT), log as opened:
            yield opened

    if request.param == "redis":
        running: RedisServer = request.getfixturevalue("server")
        running.clear()
        place = redis_place(running.url)
    return opening


async def test_all_of_a_turn_that_has_ended(open_log: Open) -> None:
    """What was appended is read in order, from wherever a reader wants, and then the end."""
    async with open_log() as log:
        write(log, "t", 600)
        log.seal("t")
        for after in (0, 1, 255, 256, 257, 599, 600):
            assert await read(log, "t", after) == [text(n) for n in range(after + 1, 601)]


async def test_a_turn_is_followed_while_it_runs(open_log: Open) -> None:
    """A reader gets what there is, then what comes, without asking again."""
    async with open_log() as log:
        write(log, "t", 2)
        async with aclosing(log.follow("t", 1)) as events:
            assert await anext(events) == text(2)
            for number in range(3, 50):
                coming = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                log.append("t", number, text(number))
                assert await coming == text(number)
            log.seal("t")
            with pytest.raises(StopAsyncIteration):
                await anext(events)


async def test_a_failed_turn_ends_with_its_error(open_log: Open) -> None:
    """Readers get the events and then the error that the turn's first reader got, its path and all."""
    error = UnavailableError(
        "gone", reason="SHIELD_GONE", retry_after=2.0, hops=[Hop("shield", "Inspect", "s-1", "ab")]
    )
    async with open_log() as log:
        write(log, "t", 3)
        log.seal("t", error)
        heard = list[bytes]()
        with pytest.raises(UnavailableError) as failure:
            await read_into(heard, log, "t", 1)
    assert heard == [text(2), text(3)]
    assert said(failure.value) == said(error)


async def test_a_turn_is_forgotten_when_it_shall_be(open_log: Open) -> None:
    """Nothing is known of it any more, though its last events were written a moment before; others stay."""
    async with open_log() as log:
        for turn in ("t", "other"):
            write(log, turn, 3)
            log.seal(turn)
        await log.forget("t")
        await log.forget("t")
        await log.forget("never")
        assert await log.find("t") is None
        with pytest.raises(DataLossError):
            await read(log, "t", 0)
        assert await read(log, "other", 0) == [text(1), text(2), text(3)]
    async with open_log() as log:
        assert await log.find("t") is None


async def test_what_is_known_of_a_turn(open_log: Open) -> None:
    """A turn is there as soon as it has begun, with its owner; others are not."""
    async with open_log() as log:
        assert await log.find("t") is None
        log.begin("t", OWNER)
        found = await log.find("t")
        assert found is not None
        assert (found.owner, found.sealed, found.error) == (OWNER, False, None)
        log.seal("t", UnavailableError("gone"))
        found = await log.find("t")
        assert found is not None
        assert found.sealed
        assert isinstance(found.error, UnavailableError)
        assert await log.find("u") is None


@outlives
async def test_turns_outlive_the_log_that_kept_them(open_log: Open) -> None:
    """Another process reads what one before it wrote; a turn that nobody runs any more ends with an error."""
    async with open_log() as log:
        write(log, "done", 2)
        log.seal("done")
        write(log, "cut", 2)
    async with open_log() as log:
        assert await read(log, "done", 0) == [text(1), text(2)]
        heard = list[bytes]()
        with pytest.raises(DataLossError) as failure:
            await read_into(heard, log, "cut", 0)
        assert failure.value.reason == "TURN_LOST"
        assert heard == [text(1), text(2)]


async def test_a_second_writer_changes_nothing(open_log: Open) -> None:
    """A turn that has ended keeps its owner and its events, whoever takes its name."""
    async with open_log() as log:
        write(log, "t", 2)
        log.seal("t")
        await log.find("t")
        log.begin("t", Owner("evil", "s"))
        log.append("t", 1, b"forged")
        log.append("t", 3, b"forged")
        log.seal("t", UnavailableError("forged"))
        assert await read(log, "t", 0) == [text(1), text(2)]
        found = await log.find("t")
        assert found is not None
        assert found.owner == OWNER


@outlives
async def test_a_full_backlog_makes_writers_wait(open_log: Open) -> None:
    """Who asks for room waits until what is in front of it is kept."""
    async with open_log(backlog=100) as log:
        log.begin("t", OWNER)
        for number in range(1, 1000, 2):
            await log.room()
            log.append("t", number, b"x" * 60)
            log.append("t", number + 1, b"x" * 60)
            waiting = asyncio.ensure_future(log.room())
            await asyncio.sleep(0)
            assert not waiting.done()
            await waiting
        log.seal("t")
        assert len(await read(log, "t", 0)) == 1000


async def test_a_reader_that_leaves_disturbs_nobody(open_log: Open) -> None:
    """Of two readers of a turn one leaves while it waits; the other reads on."""
    async with open_log() as log:
        write(log, "t", 1)
        leaving = asyncio.ensure_future(read(log, "t", 1))
        staying = asyncio.ensure_future(read(log, "t", 0))
        await log.find("t")
        leaving.cancel()
        await asyncio.wait([leaving])
        log.append("t", 2, text(2))
        log.seal("t")
        assert await staying == [text(1), text(2)]


async def test_time_over(open_log: Open) -> None:
    """A turn is forgotten some time after its end, and not while it runs."""
    async with open_log(retention=0.0) as log:
        write(log, "running", 1)
        write(log, "over", 1)
        log.seal("over")
        await log.find("over")
        await forgotten(log, "over")
        assert await log.find("running") is not None


async def test_gaps_are_told(open_log: Open) -> None:
    """A reader whom an event is missing for gets an error and not the next event."""
    async with open_log() as log:
        write(log, "t", 2)
        log.append("t", 4, text(4))
        log.seal("t")
        heard = list[bytes]()
        with pytest.raises(DataLossError):
            await read_into(heard, log, "t", 0)
        assert heard == [text(1), text(2)]


async def test_the_first_claim_of_a_key_wins(open_log: Open) -> None:
    """All who claim a key, at once or later, hear of the first one's turn and request; other keys are free."""
    async with open_log() as log:
        claims = await asyncio.gather(*(log.claim("key", f"turn-{n}", f"digest-{n}".encode()) for n in range(20)))
        (first,) = set(claims)
        assert first in {Claim(f"turn-{n}", f"digest-{n}".encode()) for n in range(20)}
        assert await log.claim("k" * 512, "other", b"\x00\xff") == Claim("other", b"\x00\xff")
        assert await log.claim("key", "later", b"later") == first


@outlives
async def test_claims_outlive_the_log_that_kept_them(open_log: Open) -> None:
    """Another process hears of a claim that was made at one before it."""
    async with open_log() as log:
        first = await log.claim("key", "first", b"")
    async with open_log() as log:
        assert await log.claim("key", "later", b"later") == first


async def test_a_claim_is_over_with_its_window(open_log: Open) -> None:
    """After that a key can stand for another turn, and for that one as long again."""
    async with open_log(claim_window=0.1) as log:
        assert await log.claim("key", "first", b"") == Claim("first", b"")
    async with open_log() as log:
        while (await log.claim("key", "second", b"")).turn != "second":  # noqa: ASYNC110  # only the log knows
            await asyncio.sleep(0.01)
        assert await log.claim("key", "third", b"") == Claim("second", b"")


async def test_who_follows_elsewhere(open_log: Open, request: pytest.FixtureRequest) -> None:
    """Whoever writes a turn can ask whether another process follows it; those of its own do not count."""
    async with open_log() as log, AsyncExitStack() as stack:
        write(log, "t", 2)
        assert not await log.followed("t")
        async with aclosing(log.follow("t", 0)) as events:
            await anext(events)
            assert not await log.followed("t")
        if "redis" in request.node.name:
            other = await stack.enter_async_context(open_log())
            following = asyncio.create_task(read(other, "t", 0))
            while not await log.followed("t"):  # noqa: ASYNC110  # it is in Redis
                await asyncio.sleep(0.001)
            log.seal("t")
            assert len(await following) == 2
            while await log.followed("t"):  # noqa: ASYNC110  # see above
                await asyncio.sleep(0.001)


async def test_who_writes_a_turn_hears_that_it_shall_stop(open_log: Open) -> None:
    """Each request to stop reaches the process that writes the turn; it changes nothing in the log."""
    asked: asyncio.Queue[str] = asyncio.Queue()
    async with open_log() as log:
        log.listen(asked.put_nowait)
        write(log, "t", 1)
        write(log, "u", 1)
        await log.ask_to_stop("u")
        await log.ask_to_stop("t")
        assert [await asked.get(), await asked.get()] == ["u", "t"]
        log.seal("t")
        assert await read(log, "t", 0) == [text(1)]


async def test_many_turns_at_once(open_log: Open) -> None:
    """64 turns that tag each event with turn and number: every reader sees exactly its own 1..n."""
    async with open_log(backlog=1_000) as log:

        async def run(turn: str) -> None:
            log.begin(turn, OWNER)
            readers = [asyncio.ensure_future(read(log, turn, after)) for after in (0, 20)]
            for number in range(1, 41):
                await log.room()
                log.append(turn, number, f"{turn}:{number}".encode())
                await asyncio.sleep(0)
            log.seal(turn)
            all_of_it = [f"{turn}:{number}".encode() for number in range(1, 41)]
            assert await asyncio.gather(*readers) == [all_of_it, all_of_it[20:]]

        await asyncio.gather(*(run(f"turn-{number}") for number in range(64)))


def write(log: TurnLog, turn: str, events: int) -> None:
    """Begins a turn and appends so many events."""
    log.begin(turn, OWNER)
    for number in range(1, events + 1):
        log.append(turn, number, text(number))


async def read(log: TurnLog, turn: str, after: int) -> list[bytes]:
    """All that follows."""
    events: list[bytes] = []
    await read_into(events, log, turn, after)
    return events


async def read_into(events: list[bytes], log: TurnLog, turn: str, after: int) -> None:
    """The same for turns that fail."""
    async with aclosing(log.follow(turn, after)) as following:
        async for event in following:
            events.append(event)  # noqa: PERF401  # what came before a failure counts


async def forgotten(log: TurnLog, turn: str) -> None:
    """Returns when a turn whose time is over is not there any more."""
    while await log.find(turn) is not None:
        await log.expire()
        await asyncio.sleep(0.001)


def text(number: int) -> bytes:
    """An event that tells its number."""
    return f"event {number}".encode()


def said(error: MeshError) -> tuple[object, ...]:
    """Everything about an error."""
    return type(error), error.message, error.reason, error.field, error.retry_after, error.hops
