"""An HTTP server that answers as a test's script says, well or badly, and remembers what it heard."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from services.inference.openai.options import OpenAIOptions

DONE = b"data: [DONE]\n\n"
STOPPED: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE: dict[str, Any] = {
    "choices": [],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}

PATIENT = {"connect": 60, "first_token": 60, "between_tokens": 60}
"""On a busy machine a server is slow to answer, and no worse for it."""


@dataclass(frozen=True)
class Heard:
    """A request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Wire:
    """The server's end of one request. The body is sent in HTTP chunks, as they are given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        """Begins the response."""
        given = {"content-type": kind, "transfer-encoding": "chunked"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())
        await self._writer.drain()

    async def send(self, *pieces: bytes) -> None:
        """Sends each piece as an HTTP chunk of its own."""
        for piece in pieces:
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()

    async def end(self) -> None:
        """Ends the body well."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Ends the connection."""
        self._writer.close()

    async def stall(self) -> None:
        """Says no more until the client has gone."""
        with suppress(ConnectionError):
            await self._reader.read()


Play = Callable[[Wire], Awaitable[None]]


@dataclass
class Upstream:
    """The server.

    Attributes:
        url: Below it lies the API.
        accepted: Connections so far.
        open: Those that have not ended.
        heard: The requests so far.
    """

    plays: Sequence[Play]
    url: str = ""
    accepted: int = 0
    open: int = 0
    heard: list[Heard] = field(default_factory=list[Heard])
    _writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection: each request by the next play, those after the last by the last."""
        self.accepted += 1
        self.open += 1
        self._writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    request = await _request(reader)
                    play = self.plays[min(len(self.heard), len(self.plays) - 1)]
                    self.heard.append(request)
                    await play(Wire(reader, writer))
                    if writer.is_closing():
                        return
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def hang_up(self) -> None:
        """Ends all connections."""
        # One that was accepted just now is served some steps of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)
        while self._writers:
            for writer in self._writers:
                writer.close()
            await asyncio.sleep(0)


async def _request(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(first.split()[1], headers, json.loads(body))


@asynccontextmanager
async def upstream(*plays: Play) -> AsyncGenerator[Upstream]:
    """A running server with these plays."""
    made = Upstream(plays)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()
        await made.hang_up()


@contextmanager
def unhurried() -> Generator[None]:
    """Connections are used again however late a response ends, and however long they are idle then."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shieldmesh.openai.answer._DRAIN_SECONDS", 60.0)
        patched.setattr(httpx, "Limits", partial(httpx.Limits, keepalive_expiry=None))
        yield


def options(server: Upstream, **changes: Any) -> OpenAIOptions:
    """Options for a model of the server, patient and quick to try again."""
    given: dict[str, Any] = {"url": server.url, "model": "m", "retries": {"pause": 0.001}, "timeouts": PATIENT}
    return OpenAIOptions.model_validate(given | changes)


def event(data: dict[str, Any]) -> bytes:
    """An event as servers send it."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def said(text: str) -> bytes:
    """An event with text."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


WHOLE = (said("one"), said(" two"), event(STOPPED), event(USAGE), DONE)
"""An answer as it should be: two tokens."""


def answer(*pieces: bytes, kind: str = "text/event-stream") -> Play:
    """Sends these pieces and ends well."""

    async def play(wire: Wire) -> None:
        await wire.head(kind=kind)
        await wire.send(*pieces)
        await wire.end()

    return play


def broken(*pieces: bytes) -> Play:
    """Sends these pieces and ends the connection."""

    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(*pieces)
        wire.cut()

    return play


def stalled(*pieces: bytes) -> Play:
    """Sends these pieces and then nothing."""

    async def play(wire: Wire) -> None:
        await wire.head()
        await wire.send(*pieces)
        await wire.stall()

    return play


def refused(status: int, body: object = None, **headers: str) -> Play:
    """Answers with a status and JSON."""

    async def play(wire: Wire) -> None:
        await wire.head(status, "application/json", **headers)
        await wire.send(json.dumps(body).encode())
        await wire.end()

    return play


async def silent(wire: Wire) -> None:
    """Accepts the request and says nothing."""
    await wire.stall()


async def hung_up(wire: Wire) -> None:
    """Ends the connection without an answer."""
    wire.cut()
