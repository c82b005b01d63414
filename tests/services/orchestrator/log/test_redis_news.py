"""News from other processes, over a connection that comes and goes."""

import asyncio
from typing import Any

import pytest

from services.orchestrator.log.followers import Followers
from services.orchestrator.log.redis_news import News


class Closed:
    """A subscription whose connection is closed, in the words of redis-py, asyncio and uvloop."""

    def __init__(self, error: Exception) -> None:
        self.asked = asyncio.Event()
        self._error = error

    async def subscribe(self, *channels: str) -> None:
        del channels
        self.asked.set()
        raise self._error


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("the handler is closed"), AttributeError()])
async def test_a_connection_that_is_closed_meanwhile_ends_nothing(error: Exception) -> None:
    """Whoever keeps the subscription goes on: a service must not end because its Redis is away for a moment."""
    client: Any = None
    news = News(client, Followers(), "own", lambda: None, silence=60.0)
    subscription = Closed(error)
    news._subscription = subscription
    keeping = asyncio.create_task(news.keep())
    try:
        for turn in ("one", "two"):
            subscription.asked.clear()
            async with asyncio.timeout(10):
                with news.heard(turn):
                    await subscription.asked.wait()
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
