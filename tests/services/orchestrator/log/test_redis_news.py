"""News from other processes, over a connection that comes and goes."""

import asyncio
from typing import Any, Self

import pytest

from services.orchestrator.log.followers import Followers
from services.orchestrator.log.redis_news import News


class Closing:
    """A client with one subscription, which says after its first channel that it is closed."""

    def __init__(self, error: Exception) -> None:
        self.refused = asyncio.Event()
        self._open = False
        self._error = error

    def pubsub(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def subscribe(self, *_: str) -> None:
        if self._open:
            self.refused.set()
            raise self._error
        self._open = True

    async def ping(self) -> None:
        pass

    async def get_message(self, timeout: float) -> None:  # noqa: ASYNC109  # redis-py's
        del timeout
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("the handler is closed"), AttributeError()])
async def test_a_connection_that_is_closed_meanwhile_ends_nothing(error: Exception) -> None:
    """In the words of asyncio, uvloop and redis-py: a service must not end because its Redis is away for a moment."""
    client: Any = Closing(error)
    news = News(client, Followers(), "own", lambda: None, silence=60.0)
    work = [asyncio.create_task(news.run()), asyncio.create_task(news.keep())]
    try:
        for turn in ("one", "two"):
            client.refused.clear()
            async with asyncio.timeout(10):
                with news.heard(turn):
                    await client.refused.wait()
        assert not any(task.done() for task in work)
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)
