"""A network that breaks: TCP connections on their way to one of several servers, which can be cut at any moment."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress


class Wire:
    """Takes connections at one address and passes them on to servers, in turn.

    Attributes:
        address: `host:port`.
        cuts: Connections that were cut.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        """`servers`: `host:port` of each."""
        self._servers = [(host, int(port)) for host, _, port in (server.rpartition(":") for server in servers)]
        self._next = 0
        self._open: set[asyncio.Task[None]] = set()
        self.address = ""
        self.cuts = 0

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Passes connections on inside the block."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        try:
            yield
        finally:
            server.close()
            for connection in self._open:
                connection.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def cut(self, chance: random.Random, share: float) -> None:
        """Cuts this share of the open connections, whatever is on its way in them."""
        for connection in list(self._open):
            if chance.random() < share:
                connection.cancel()
                self.cuts += 1

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(asyncio.CancelledError):  # nobody waits for this task
                await self._pass_on(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await self._connect()
        if there is None:
            return
        try:
            copying = [asyncio.ensure_future(_copy(reader, there[1])), asyncio.ensure_future(_copy(there[0], writer))]
            try:
                await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in copying:
                    each.cancel()
                await asyncio.gather(*copying, return_exceptions=True)
        finally:
            there[1].transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the next server that takes one."""
        for _ in self._servers:
            host, port = self._servers[self._next % len(self._servers)]
            self._next += 1
            with suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
