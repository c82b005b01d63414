"""A client of servers with OpenAI's chat completions, for `benchmarks.load`.

The reader of the answers is as small as they allow: a general HTTP client costs more for a token than most of what it
would measure.
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Final, cast

from .turns import Turn

_CONTENT: Final = re.compile(rb'"content": ?"((?:[^"\\]|\\.)*)"')


class SseError(Exception):
    """The server answered something else than a stream of events; the message says what."""


class SseReader:
    """Takes an HTTP/1.1 answer apart: a status, headers, and events in chunks or until the connection ends."""

    def __init__(self) -> None:
        self.done = False
        """Whether the whole answer was read, so that the connection can carry another one."""
        self._head: bytearray | None = bytearray()
        self._chunked = False
        self._raw = bytearray()
        self._body = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete now, `[DONE]` included.

        Raises:
            SseError: the status is not 200.
        """
        if self._head is not None:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return []
            self._read_head(bytes(head).lower(), bytes(rest))
            data = bytes(rest)
        if self._chunked:
            self._raw += data
            self._join_chunks()
        else:
            self._body += data
        *events, rest = self._body.split(b"\n\n")
        self._body = bytearray(rest)
        return [bytes(event[6:]) for event in events if event.startswith(b"data: ")]

    def _read_head(self, head: bytes, rest: bytes) -> None:
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            raise SseError(f"{head.partition(bytes((13,)))[0].decode()}: {rest[:300].decode(errors='replace')}")
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        self._head = None

    def _join_chunks(self) -> None:
        raw, at = self._raw, 0
        while True:
            if not self._left:
                end = raw.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(raw[at:end].partition(b";")[0], 16)
                if not size:
                    # Whatever trails, it ends with an empty line.
                    self.done = raw.find(b"\r\n\r\n", end) >= 0
                    break
                at = end + 2
                self._left = size + 2
            taken = raw[at : at + self._left]
            # The chunk's own end of line is no part of its data.
            self._body += taken[: max(0, self._left - 2)]
            self._left -= len(taken)
            at += len(taken)
            if self._left:
                break
        del raw[:at]


class OpenAIClient:
    """Asks one server, over connections that are used again, as clients do."""

    def __init__(self, target: str, headers: Mapping[str, str], body: Mapping[str, object], until: float) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._until = until
        content = json.dumps(body).encode()
        given = {"Host": target, "Content-Type": "application/json", "Accept": "text/event-stream", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
        self._request = head.encode() + content
        self._idle: list[_Answers] = []

    async def ask(self, turn: Turn) -> None:
        """Plays one turn; what goes wrong is its error."""
        connection: _Answers | None = None
        try:
            connection = await self._connection()
            await connection.ask(self._request, turn)
            self._idle.append(connection)
            connection = None
        except (SseError, OSError, ValueError) as error:
            turn.error = str(error) or type(error).__name__
        finally:
            if connection is not None:
                connection.close()

    async def _connection(self) -> "_Answers":
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        _, answers = await asyncio.get_running_loop().create_connection(
            lambda: _Answers(self._until), self._host, self._port
        )
        return answers


class _Answers(asyncio.Protocol):
    """One connection: notes when tokens come."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._transport: asyncio.Transport
        self._reader = SseReader()
        self._turn: Turn | None = None
        self._end: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, request: bytes, turn: Turn) -> None:
        self._reader, self._turn = SseReader(), turn
        self._end = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._end
        turn.finished = time.monotonic()

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's have no base class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_exception(exc or SseError("the server closed the connection within an answer"))

    def data_received(self, data: bytes) -> None:
        turn, end = self._turn, self._end
        if turn is None or end is None or end.done():
            return
        if time.monotonic() > self._until:
            # A loop that is never done reading is late for its timers.
            end.cancel()
            return
        try:
            _note(self._reader.feed(data), turn)
        except (SseError, ValueError) as error:
            end.set_exception(error)
            return
        if self._reader.done:
            end.set_result(None)


def _note(events: list[bytes], turn: Turn) -> None:
    now = time.monotonic()
    for event in events:
        tokens = 0
        for text in _CONTENT.findall(event):
            # Each of the script's words but the first has a blank before it.
            tokens += text.count(b" ") + bool(text and not turn.times)
        if tokens:
            turn.times.append(now)
            turn.tokens.append(tokens)
        elif event.startswith(b'{"error"'):
            raise SseError(event[:300].decode(errors="replace"))
