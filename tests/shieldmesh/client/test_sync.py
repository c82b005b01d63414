"""A turn, read without an event loop."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import shieldmesh

from .scripted import ScriptedChat, delta, engine_failure, hello, serving, started

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


async def test_events_come_typed_and_in_order() -> None:
    """The blocking client gives the same events as the asynchronous one."""
    async with serving(ScriptedChat(hello())) as url:

        def read() -> list[shieldmesh.Event]:
            with shieldmesh.connect_sync(url) as mesh:
                return list(mesh.chat("hi", session="s-1", timeout=LIMIT))

        blocking = await asyncio.to_thread(read)
        async with shieldmesh.connect(url) as mesh:
            assert blocking == [event async for event in mesh.chat("hi", timeout=LIMIT)]


async def test_the_session_travels() -> None:
    """The session id goes as metadata."""
    chat = ScriptedChat(hello())
    async with serving(chat) as url:

        def ask() -> str:
            with shieldmesh.connect_sync(url) as mesh:
                return mesh.chat("hi", session="s-1", timeout=LIMIT).text()

        assert await asyncio.to_thread(ask) == "Hello world"
    assert chat.metadata[0]["x-session-id"] == "s-1"


async def test_break_cancels_the_call() -> None:
    """Leaving the loop ends the handler at the server while the client stays open."""
    chat = ScriptedChat([started(), delta(2, "Hello")], wait=True)
    async with serving(chat) as url:
        done = threading.Event()

        def read() -> None:
            with shieldmesh.connect_sync(url) as mesh:
                for _ in mesh.chat("hi", timeout=LIMIT):
                    break
                done.wait(LIMIT)

        reading = asyncio.create_task(asyncio.to_thread(read))
        async with asyncio.timeout(LIMIT / 2):
            await chat.ended.wait()
        done.set()
        await reading


async def test_many_threads_share_one_client() -> None:
    """Concurrent turns of several threads over one client each get their whole answer."""
    async with serving(ScriptedChat(hello())) as url:

        def ask_all() -> list[str]:
            with shieldmesh.connect_sync(url) as mesh, ThreadPoolExecutor(8) as threads:
                turns = [threads.submit(mesh.chat("hi", timeout=LIMIT).text) for _ in range(32)]
                return [turn.result() for turn in turns]

        assert await asyncio.to_thread(ask_all) == ["Hello world"] * 32


async def test_closing_the_client_ends_a_turn_in_another_thread() -> None:
    """A thread that waits for an event hears a typed error when the client is closed."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url:
        mesh = shieldmesh.connect_sync(url)
        first_came = threading.Event()

        def read() -> None:
            for _ in mesh.chat("hi", timeout=LIMIT):
                first_came.set()

        reading = asyncio.create_task(asyncio.to_thread(read))
        assert await asyncio.to_thread(first_came.wait, LIMIT)
        mesh.close()
        with pytest.raises(shieldmesh.CancelledCallError):
            await reading


async def test_an_error_is_typed_and_knows_its_path() -> None:
    """A failure arrives with its reason and the hops it passed."""
    async with serving(ScriptedChat([started()], error=engine_failure())) as url:

        def ask() -> str:
            with shieldmesh.connect_sync(url) as mesh:
                return mesh.chat("hi", timeout=LIMIT).text()

        with pytest.raises(shieldmesh.InternalError) as caught:
            await asyncio.to_thread(ask)
    assert caught.value.reason == "ENGINE_FAILED"
    assert [hop.service for hop in caught.value.hops] == ["gateway", "inference"]


async def test_the_timeout_ends_the_turn() -> None:
    """A turn that takes longer than its timeout fails with DeadlineExceededError."""
    async with serving(ScriptedChat([started()], wait=True)) as url:

        def ask() -> str:
            with shieldmesh.connect_sync(url) as mesh:
                return mesh.chat("hi", timeout=0.2).text()

        with pytest.raises(shieldmesh.DeadlineExceededError):
            await asyncio.to_thread(ask)


def test_a_mesh_that_is_not_there() -> None:
    """Nobody at the address is an UnavailableError that says what to start."""
    with (
        shieldmesh.connect_sync("unix:/nowhere/mesh.sock") as mesh,
        pytest.raises(shieldmesh.UnavailableError, match="shieldmesh up"),
    ):
        mesh.chat("hi", timeout=LIMIT).text()


async def test_the_interpreter_ends_with_a_turn_open() -> None:
    """A program that forgets to close its client and its turn still exits, quickly and quietly."""
    chat = ScriptedChat([started()], wait=True)
    async with serving(chat) as url:
        program = f"import shieldmesh; turn = shieldmesh.connect_sync({url!r}).chat('hi'); next(turn); print('read')"

        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", program]
            return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * 2, check=False)  # noqa: S603  # our own program

        ended = await asyncio.to_thread(run)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "read\n", "")
