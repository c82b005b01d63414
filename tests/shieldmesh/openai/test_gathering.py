"""What gathers while nobody looks is taken together, in order, and not without bound."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from shieldmesh.openai.gathering import AHEAD, Gathering


async def pieces(
    *given: bytes, fail: bool = False, sent: Callable[[bytes], None] = lambda _: None
) -> AsyncIterator[bytes]:
    for piece in given:
        sent(piece)
        yield piece
    if fail:
        raise OSError("the line is dead")


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_came_is_taken_together() -> None:
    """Three pieces that are there make one; the end is an empty one."""
    gathering = Gathering(pieces(b"a", b"b", b"c"))
    assert await gathering.take() == b"abc"
    assert await gathering.take() == b""
    await gathering.close()


async def test_what_ended_the_pieces_comes_after_them() -> None:
    """Nothing that was received is lost to the failure behind it."""
    gathering = Gathering(pieces(b"a", fail=True))
    assert await gathering.take() == b"a"
    with pytest.raises(OSError, match="dead"):
        await gathering.take()
    await gathering.close()


async def test_a_reader_that_does_not_come_stops_the_reading() -> None:
    """No more than AHEAD and a piece is read, until it is taken."""
    read = list[bytes]()
    big = b"x" * (AHEAD // 2)
    gathering = Gathering(pieces(*[big] * 9, sent=read.append))
    await settled()
    assert len(read) == 2
    assert await gathering.take() == big * 2
    await settled()
    assert len(read) == 4
    await gathering.close()


async def test_a_reader_that_gives_up_ends_the_reading() -> None:
    """Later there is nothing to wait for."""

    async def silent() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    gathering = Gathering(silent())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gathering.take(), 0.01)
    assert await gathering.take() == b""
    await gathering.close()


async def test_closing_ends_the_reading() -> None:
    """A source that gives nothing for ever is let go."""
    ended = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.set()

    gathering = Gathering(silent())
    await settled()
    await gathering.close()
    assert ended.is_set()
