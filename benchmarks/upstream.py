"""A server with OpenAI's chat completions that plays scripts: the same pace and text for all that is measured.

A request's `model` names the scenario whose engine is played. Made to cost little: answers are cut into events once,
one timer serves a stream, and requests are so few beside tokens that a general parser reads them.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Final, cast

import h11
import uvloop

from .engine import Engine

STEP: Final = 0.01
"""Seconds between the writes of a stream at least: engines work in steps, and fast ones send several tokens in one."""
_EVENT: Final = (
    '{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"script",'
    '"choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]{usage}}}'
)
_USAGE: Final = ',"usage":{{"prompt_tokens":12,"completion_tokens":{0},"total_tokens":{1}}}'
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Script:
    """What an engine plays, ready to be sent."""

    def __init__(self, engine: Engine) -> None:
        self.pace = engine.pace or 100_000.0
        self.words = engine.words
        deltas = (json.dumps({"content": word}) for word in self.words)
        self.events = [_chunk(_EVENT.format(delta=delta, reason="null", usage="")) for delta in deltas]
        usage = _USAGE.format(len(self.words), len(self.words) + 12)
        self.opening = _chunk(_EVENT.format(delta='{"role":"assistant","content":""}', reason="null", usage=""))
        self.ending = _chunk(_EVENT.format(delta="{}", reason='"stop"', usage=usage)) + _chunk("[DONE]") + b"0\r\n\r\n"

    def whole(self) -> bytes:
        """The answer to who does not want it streamed."""
        message = {"role": "assistant", "content": "".join(self.words)}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "script",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": len(self.words), "total_tokens": len(self.words) + 12},
        }
        return _json(answer)


class Connection(asyncio.Protocol):
    """One client: requests one after the other."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._http = h11.Connection(h11.SERVER)
        self._body = bytearray()
        self._path = ""
        self._transport: asyncio.Transport
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's have no base class

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        if self._stream is not None:
            self._stream.stop()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._stream is not None:
            self._stream.stop()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._stream is not None:
            self._stream.catch_up()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._http.receive_data(data)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._path = event.target.decode()
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
            else:
                return

    def _answer(self) -> None:
        # The parser is told nothing of the answer: it only has to read the next request.
        self._http = h11.Connection(h11.SERVER)
        if not self._path.endswith("/chat/completions"):
            models = [{"id": name, "object": "model", "created": 1, "owned_by": "script"} for name in self._scripts]
            self._transport.write(_json({"object": "list", "data": models}))
            return
        request = json.loads(self._body)
        script = self._scripts[request["model"].rpartition("/")[2]]
        if request.get("stream"):
            self._stream = _Stream(self._transport, script)
        else:
            self._transport.write(script.whole())


class _Stream:
    """One answer. Every token's time counts from the start; a reader that stops stops the time."""

    def __init__(self, transport: asyncio.Transport, script: Script) -> None:
        self._transport = transport
        self._script = script
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._zero = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        transport.write(_STREAM_HEAD + script.opening)
        self._step()

    def stop(self) -> None:
        """Sends nothing more until `catch_up`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def catch_up(self) -> None:
        """Goes on from now."""
        if self._timer is None and self._sent < len(self._script.events):
            self._zero = self._loop.time() - self._sent / self._script.pace
            self._timer = self._loop.call_later(STEP, self._step)

    def _step(self) -> None:
        script = self._script
        due = 1 + int((self._loop.time() - self._zero) * script.pace)
        events = script.events[self._sent : due]
        self._sent += len(events)
        if self._sent == len(script.events):
            self._timer = None
            self._transport.write(b"".join(events) + script.ending)
            return
        wait = max(STEP, self._zero + self._sent / script.pace - self._loop.time())
        self._timer = self._loop.call_later(wait, self._step)
        self._transport.write(b"".join(events))


@asynccontextmanager
async def serving(engines: Mapping[str, Engine]) -> AsyncGenerator[str]:
    """A server in a process of its own; yields its address, `host:port`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4_096)
    process = get_context("spawn").Process(target=_main, args=(listener, dict(engines)), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        process.terminate()
        await asyncio.to_thread(process.join)


def _main(listener: socket.socket, engines: Mapping[str, Engine]) -> None:
    uvloop.run(_serve(listener, {name: Script(engine) for name, engine in engines.items()}))


async def _serve(listener: socket.socket, scripts: Mapping[str, Script]) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(scripts), sock=listener)
    await server.serve_forever()


def _chunk(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
