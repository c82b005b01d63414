"""When a turn is abandoned."""

import asyncio

import pytest

from services.orchestrator.readers import Readers

PATIENCE = 0.01


async def longer() -> None:
    """Returns after any timer of these tests that was set before."""
    await asyncio.sleep(2 * PATIENCE)


@pytest.mark.parametrize("patience", [0.0, PATIENCE])
async def test_without_readers(patience: float) -> None:
    """It is told once, when the last one has gone; at once where there is no patience."""
    told: list[None] = []
    readers = Readers(patience, lambda: told.append(None))
    readers.join()
    readers.leave()
    await longer()
    assert not told
    readers.leave()
    assert len(told) == (patience == 0)
    await longer()
    assert len(told) == 1


async def test_who_comes_in_time() -> None:
    """Somebody who comes back ends the waiting, and when that one leaves it begins anew."""
    told: list[None] = []
    readers = Readers(PATIENCE, lambda: told.append(None))
    readers.leave()
    readers.join()
    await longer()
    assert not told
    readers.leave()
    await longer()
    assert told


async def test_what_need_not_be_read() -> None:
    """Nothing is told of a turn that goes on anyhow, or that has ended."""
    told: list[None] = []
    Readers(None, lambda: told.append(None)).leave()
    ended = Readers(PATIENCE, lambda: told.append(None))
    ended.leave()
    ended.forget()
    await longer()
    assert not told
