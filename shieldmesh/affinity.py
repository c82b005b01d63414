"""Network clients that belong to event loops: one per running loop and key, shared by all calls, closed with the loop.

A client of grpc.aio or httpx belongs to the loop that made it and fails under any other ("Event loop is closed"), while
one per call would cost a connection each. So clients are kept by the running loop. A loop's clients are closed when it
shuts its asynchronous generators down, as `asyncio.run` does at its end; `close` does it earlier.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K", bound=Hashable)
C = TypeVar("C")


class LoopPool(Generic[K, C]):
    """Clients by running loop and key. Safe to use from any thread that runs a loop."""

    def __init__(self, close: Callable[[C], Awaitable[None]]) -> None:
        """Makes an empty pool of clients that `close` closes."""
        self._close_client = close
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients[K, C]] = WeakKeyDictionary()
        self._guard = threading.Lock()

    def get(self, key: K, make: Callable[[], C]) -> C:
        """The running loop's client for `key`, made when there is none yet.

        Raises:
            RuntimeError: no event loop is running.
        """
        clients = self._of(asyncio.get_running_loop())
        client = clients.by_key.get(key)
        if client is None:
            client = clients.by_key[key] = make()
        return client

    async def close(self) -> None:
        """Closes all clients of the running loop; a later `get` makes new ones."""
        await self._of(asyncio.get_running_loop()).close()

    def _of(self, loop: asyncio.AbstractEventLoop) -> "_Clients[K, C]":
        clients = self._loops.get(loop)
        if clients is None:
            with self._guard:
                # A loop that was closed by hand closed no clients: they cannot be used any more, and are let go.
                for closed in [other for other in self._loops if other.is_closed()]:
                    del self._loops[closed]
                clients = self._loops[loop] = _Clients(self._close_client)
        return clients


class _Clients(Generic[K, C]):
    """The clients of one loop."""

    def __init__(self, close: Callable[[C], Awaitable[None]]) -> None:
        self.by_key: dict[K, C] = {}
        self._close_client = close
        # One step registers the generator with the running loop, which closes it when it shuts down.
        self._closer = self._close_with_loop()
        with contextlib.suppress(StopIteration):
            self._closer.asend(None).send(None)

    async def close(self) -> None:
        clients = list(self.by_key.values())
        self.by_key.clear()
        for client in clients:
            await self._close_client(client)

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()
