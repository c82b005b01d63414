"""Who waits for news of which turn."""

import asyncio
from collections.abc import Generator, Set
from contextlib import contextmanager


class Followers:
    """The followers of a log in one event loop."""

    def __init__(self) -> None:
        self._news: dict[str, set[asyncio.Event]] = {}

    def __contains__(self, turn: str) -> bool:
        return turn in self._news

    @contextmanager
    def following(self, turn: str) -> Generator[asyncio.Event]:
        """An event that is set whenever the turn has news."""
        news = asyncio.Event()
        events = self._news.setdefault(turn, set())
        events.add(news)
        try:
            yield news
        finally:
            events.discard(news)
            if not events:
                self._news.pop(turn, None)

    def tell(self, turns: Set[str]) -> None:
        """These turns have news."""
        for turn in turns & self._news.keys():
            for news in self._news[turn]:
                news.set()
