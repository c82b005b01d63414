"""One channel for each loop and target, which ends with its loop."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest

from shieldmesh import calls, channels
from shieldmesh.server import SERVER_OPTIONS
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc
from tests.shieldmesh.serving import TIMEOUT, OnlyChat, event, listening, stub_of


async def answers(request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
    del request
    yield event()


async def ask(target: str) -> int:
    async with calls.stream(stub_of(target).Chat, chat_pb2.ChatRequest(), timeout=TIMEOUT) as events:
        return len([each async for each in events])


async def test_calls_of_a_loop_share_one_channel(tmp_path: Path) -> None:
    """The same target gives the same channel, another target another one, and many calls at once go through it."""
    async with listening(answers, tmp_path) as target:
        assert channels.get(target) is channels.get(target)
        assert channels.get(target) is not channels.get("unix:/elsewhere.sock")
        assert await asyncio.gather(*(ask(target) for _ in range(50))) == [1] * 50


def test_every_loop_has_its_own_and_closes_it(tmp_path: Path) -> None:
    """One loop after the other can call the same target: none uses what another made, and all is closed."""
    made: list[grpc.aio.Channel] = []

    async def visit() -> None:
        made.append(channels.get(target))
        assert await ask(target) == 1

    with serving_thread(tmp_path) as target:
        for _ in range(3):
            asyncio.run(visit())
    assert len({id(channel) for channel in made}) == 3
    assert {channel.get_state() for channel in made} == {grpc.ChannelConnectivity.SHUTDOWN}
    made.clear()
    gc.collect()  # a channel or generator that was left open would warn, and warnings are errors


async def test_close_lets_a_later_get_open_a_new_one(tmp_path: Path) -> None:
    """Closing is not for ever."""
    async with listening(answers, tmp_path) as target:
        first = channels.get(target)
        await channels.close()
        assert channels.get(target) is not first
        assert await ask(target) == 1


async def test_an_old_connection_ends_without_cutting_off_what_runs() -> None:
    """New calls go over a new one, before which the client has looked for new replicas; a turn that runs is whole."""
    peers: set[str] = set()
    others_came = asyncio.Event()

    class Remembering(OnlyChat):
        async def Chat(  # noqa: N802  # the contract's name
            self, request: chat_pb2.ChatRequest, context: Any
        ) -> AsyncGenerator[chat_pb2.ChatEvent]:
            peers.add(context.peer())
            yield event()
            if request.profile == "long":
                await others_came.wait()
                yield event()

    server = grpc.aio.server(options=list({**dict(SERVER_OPTIONS), "grpc.max_connection_age_ms": 50}.items()))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Remembering(), server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with calls.stream(stub_of(target).Chat, chat_pb2.ChatRequest(profile="long"), timeout=TIMEOUT) as events:
            await anext(aiter(events))
            while len(peers) < 3:
                assert await ask(target) == 1
            others_came.set()
            assert len([each async for each in events]) == 1
    finally:
        await channels.close()
        await server.stop(None)


def test_without_a_loop_there_is_no_channel() -> None:
    """It says so at once, instead of failing at the first call."""
    with pytest.raises(RuntimeError):
        channels.get("unix:/nowhere.sock")


class serving_thread:  # noqa: N801  # used as a function
    """A server in a loop and thread of its own, for clients that come and go with theirs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._target = ""

    def __enter__(self) -> str:
        self._thread.start()
        assert self._ready.wait(TIMEOUT)
        return self._target

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with listening(answers, self._directory) as self._target:
            self._ready.set()
            await self._stop.wait()
