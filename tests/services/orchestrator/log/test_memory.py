"""What is special about the turn log in memory: its bound, and what it forgets for it."""

import asyncio
import gc
import secrets
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from services.orchestrator.log import memory
from services.orchestrator.log.memory import EVENT_BYTES, TURN_BYTES, open_memory
from services.orchestrator.log.memory_claims import CLAIM_BYTES
from services.orchestrator.log.opening import open_log
from services.orchestrator.log.turn_log import LARGEST_SEQUENCE, Claim, Owner, TurnLog
from shieldmesh.errors import DataLossError, UnavailableError

from .test_sqlite import files
from .test_turn_log import TIMEOUT, read, text, write

EVENT = b"x" * 1_000
ROOM = 8 * 100_000
"""Of which turns get 7/8."""
PART = 70_000
"""A tenth of the turns' share."""


def fill(log: TurnLog, turn: str, size: int = PART - 1, first: int = 1) -> int:
    """Appends to a turn until it takes about so much, the turn itself included; its last event."""
    events = (size - TURN_BYTES) // (len(EVENT) + EVENT_BYTES)
    for number in range(first, first + events):
        log.append(turn, number, EVENT)
    return first + events - 1


def fill_one(log: TurnLog, turn: str) -> int:
    """The same with its beginning."""
    log.begin(turn, Owner("", "s"))
    return fill(log, turn)


async def known(log: TurnLog, *turns: str) -> list[str]:
    """Those of the turns that the log knows."""
    return [turn for turn in turns if await log.find(turn) is not None]


async def refused(events: AsyncGenerator[bytes]) -> list[bytes]:
    """What comes before the error that says that the rest is lost."""
    heard: list[bytes] = []

    async def listen() -> None:
        async for event in events:
            heard.append(event)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(DataLossError) as failure:
        await listen()
    assert failure.value.reason == "TURN_LOST"
    return heard


async def test_nothing_outlives_it() -> None:
    """The next log knows no turn and no key."""
    async with open_memory(retention=60.0) as log:
        write(log, "t", 2)
        log.seal("t")
        await log.claim("key", "t", b"")
    async with open_memory(retention=60.0) as log:
        assert await log.find("t") is None
        assert await log.claim("key", "u", b"") == Claim("u", b"")


@pytest.mark.parametrize("place", ["memory:", ":memory:"])
async def test_the_place_that_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """What settings call it is no file's name, not even where SQLite's own word for it is used."""
    monkeypatch.chdir(tmp_path)
    async with open_log(place, retention=60.0, backlog=1, claim_window=60.0, lease=1.0, memory=ROOM) as log:
        write(log, "t", 2)
        assert [event async for event in log.follow("t", 0, live=False)] == [text(1), text(2)]
        assert files(tmp_path) == []
        log.seal("t")
        for turn in range(12):
            fill_one(log, f"t-{turn}")
        assert await log.find("t") is None


async def test_the_oldest_that_have_ended_are_forgotten_first() -> None:
    """When it is full, turns go in the order of their ends; those that run, and the newer ones, stay whole."""
    async with open_memory(retention=3_600.0, memory=ROOM) as log:
        last = fill_one(log, "running")
        ended = [f"ended-{number}" for number in range(9)]
        for turn in ended:
            fill_one(log, turn)
        for turn in reversed(ended):
            log.seal(turn)
        assert await known(log, "running", *ended) == ["running", *ended]
        for turn in ("new-1", "new-2"):
            fill_one(log, turn)
        assert await known(log, "running", *ended) == ["running", *ended[:-2]]
        for turn in (*ended[:-2], "new-1"):
            events = [event async for event in log.follow(turn, 0, live=False)]
            assert events == [EVENT] * last
        await refused(log.follow(ended[-1], 0))
        log.append("running", last + 1, text(1))
        log.seal("running")
        assert await read(log, "running", last - 1) == [EVENT, text(1)]


async def test_what_somebody_reads_is_forgotten_last() -> None:
    """Of turns that have ended, newer ones go before one that a slow reader is still at; it gets all of it."""
    async with asyncio.timeout(TIMEOUT), open_memory(retention=3_600.0, memory=ROOM) as log:
        last = fill_one(log, "read")
        log.seal("read")
        async with aclosing(log.follow("read", 0)) as events:
            assert await anext(events) == EVENT
            for number in range(20):
                fill_one(log, f"t-{number}")
                log.seal(f"t-{number}")
            assert await known(log, "read", "t-0", "t-10", "t-19") == ["read", "t-19"]
            assert [event async for event in events] == [EVENT] * (last - 1)
        fill_one(log, "more")
        assert await known(log, "read") == []


async def test_a_slow_reader_hears_that_the_rest_is_gone() -> None:
    """One whose turn had to go, because everybody else's is read, too, gets an error behind what it has, and no gap."""
    async with asyncio.timeout(TIMEOUT), open_memory(retention=3_600.0, memory=ROOM) as log:
        last = fill_one(log, "t")
        log.seal("t")
        async with aclosing(log.follow("t", 0)) as slow, aclosing(log.follow("t", last - 1)) as quick:
            assert [await anext(slow), await anext(slow), await anext(quick)] == [EVENT] * 3
            log.begin("running", Owner("", "s"))
            fill(log, "running", 10 * PART - 2_000)
            assert await known(log, "t", "running") == ["running"]
            assert await refused(slow) == []
            # Nothing is missing for one that has had all.
            assert [event async for event in quick] == []


async def test_where_all_run_the_largest_loses_its_log() -> None:
    """It costs no other turn an event; the readers of the large one hear that it is lost, and its writer nothing."""
    async with asyncio.timeout(TIMEOUT), open_memory(retention=3_600.0, memory=ROOM) as log:
        small = [f"small-{number}" for number in range(5)]
        (last,) = {fill_one(log, turn) for turn in small}
        log.begin("large", Owner("", "s"))
        largest = fill(log, "large", 5 * PART - 2_000)
        reading = asyncio.create_task(refused(log.follow("large", largest - 1)))
        await asyncio.sleep(0)  # it has that event, and waits for the next one
        for _ in range(5):
            last += 1
            for turn in small:
                log.append(turn, last, EVENT)
        assert await reading == [EVENT]
        record = await log.find("large")
        assert record is not None
        assert record.sealed
        assert isinstance(record.error, DataLossError)
        await log.room()
        log.append("large", largest + 1, EVENT)
        log.seal("large", UnavailableError("its own end"))
        assert await refused(log.follow("large", 0)) == []
        assert await refused(log.follow("large", LARGEST_SEQUENCE)) == []
        for turn in small:
            log.append(turn, last + 1, text(1))
            log.seal(turn)
            assert await read(log, turn, 0) == [EVENT] * last + [text(1)]


@pytest.mark.parametrize("size", [0, 1, 60, 1_000])
async def test_it_takes_no_more_memory_than_it_may(size: int) -> None:
    """However small the events are, and with ids as long as they can be, all objects together stay in the bound."""
    room = 1_000_000
    gc.collect()
    tracemalloc.start()
    try:
        async with open_memory(retention=3_600.0, memory=room) as log:
            before = tracemalloc.get_traced_memory()[0]
            most = 0
            for turn in range(3 * room // (TURN_BYTES + 20 * (EVENT_BYTES + size))):
                name = secrets.token_hex(64)
                await log.claim(secrets.token_hex(32), name, secrets.token_bytes(48))
                log.begin(name, Owner(secrets.token_hex(64), secrets.token_hex(64)))
                for number in range(turn % 40):
                    log.append(name, number + 1, secrets.token_bytes(size))
                if turn % 2:
                    log.seal(name)
                if turn % 10 == 0:
                    most = max(most, tracemalloc.get_traced_memory()[0])
            most -= before
    finally:
        tracemalloc.stop()
    assert room / 3 < most < room


async def test_the_oldest_keys_are_forgotten_first() -> None:
    """Keys have an eighth of the memory; a key that is asked for does not get older by it, nor younger."""
    async with open_memory(retention=3_600.0, memory=8 * 10 * CLAIM_BYTES) as log:
        for number in range(10):
            await log.claim(f"key-{number}", f"turn-{number}", b"")
        assert (await log.claim("key-0", "other", b"")).turn == "turn-0"
        await log.claim("key-10", "turn-10", b"")
        assert (await log.claim("key-1", "other", b"")).turn == "turn-1"
        assert (await log.claim("key-10", "other", b"")).turn == "turn-10"
        assert (await log.claim("key-0", "other", b"")).turn == "other"


async def test_what_is_over_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns leave the memory some time after their end, without anybody asking; nobody's bytes stay."""
    monkeypatch.setattr(memory, "SWEEP_SECONDS", 0.001)

    gone = asyncio.Event()

    class Said(bytes):
        def __del__(self) -> None:
            gone.set()

    async with asyncio.timeout(TIMEOUT), open_memory(retention=0.0) as log:
        log.begin("t", Owner("", "s"))
        log.append("t", 1, Said(b"something that a model said"))
        log.seal("t")
        await gone.wait()
        assert await log.find("t") is None
