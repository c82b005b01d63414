"""Hears of news from other processes over one subscription, whose messages say no more than where to look.

What is missed while the connection is away does not matter: Redis confirms each subscription anew, and each
confirmation makes those who follow look.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

from redis.exceptions import TimeoutError as RedisTimeoutError

from services.orchestrator.redis_client import FAILURES, Client

from . import redis_keys as keys
from .followers import Followers

_PAUSE: Final = 0.2
"""Seconds between two attempts to connect."""


class News:
    """The channels of the turns that are followed here, and one of this process's own."""

    def __init__(
        self, client: Client, followers: Followers, own: str, called: Callable[[], None], *, silence: float
    ) -> None:
        """Hears when `run` runs.

        Args:
            client: One that tries nothing twice.
            followers: Told of the turns that have news.
            own: The channel of this process.
            called: Called when there may be something new on it.
            silence: Seconds without an answer after which the connection counts as broken.
        """
        self._client = client
        self._followers = followers
        self._own = own
        self._called = called
        self._silence = silence
        self._wanted: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._subscription: Any = None  # Any: it is typed in part
        self._subscribed: set[str] = set()

    @contextmanager
    def heard(self, turn: str) -> Generator[None]:
        """Tells those who follow the turn of its news, as long as the block lasts, and once when that begins."""
        channel = keys.news(turn)
        self._wanted[channel] += 1
        self._changed.set()
        try:
            yield
        finally:
            self._wanted[channel] -= 1
            if not self._wanted[channel]:
                del self._wanted[channel]
            self._changed.set()

    async def run(self) -> None:
        """Hears, for ever."""
        while True:
            client: Any = self._client  # Any: what follows is typed in part
            subscription: Any = client.pubsub()  # Any: see above
            try:
                async with subscription:
                    await subscription.subscribe(self._own)
                    self._subscription, self._subscribed = subscription, set[str]()
                    self._changed.set()
                    await self._listen(subscription)
            except FAILURES:
                await asyncio.sleep(_PAUSE)
            finally:
                self._subscription = None

    async def keep(self) -> None:
        """Keeps the subscription to what is wanted, and its connection from falling silent, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._silence / 2):
                    await self._changed.wait()
            self._changed.clear()
            if self._subscription is not None:
                # `run` hears of it, too. redis-py has no error of its own for a connection that is closed meanwhile.
                with suppress(*FAILURES, AttributeError):
                    await self._subscribe(self._subscription, set(self._wanted), self._subscribed)

    async def _subscribe(self, subscription: Any, wanted: set[str], now: set[str]) -> None:  # noqa: ANN401  # see above
        if more := wanted - now:
            await subscription.subscribe(*more)
            now |= more
        if less := now - wanted:
            await subscription.unsubscribe(*less)
            now -= less
        await subscription.ping()

    async def _listen(self, subscription: Any) -> None:  # noqa: ANN401  # see above
        """Raises RedisTimeoutError: nothing came for too long."""
        while (message := await subscription.get_message(timeout=self._silence)) is not None:
            self._hear(message)
        raise RedisTimeoutError

    def _hear(self, message: dict[str, Any]) -> None:  # Any: as redis-py gives it
        if message["type"] not in {"message", "subscribe"}:
            return
        channel = message["channel"].decode()
        if channel == self._own:
            self._called()
        else:
            self._followers.tell({keys.turn_of(channel)})
