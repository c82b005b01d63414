"""P6: when a client goes away or cancels, generation stops in the engine, in whatever state the turn is.

Shown by causality, not by time: when no service serves a call any more, the engine's counters stand still over the
steps of another turn, every span has ended, and no task is left. How long that takes is a benchmark's business.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import shieldmesh
from services.inference.llamacpp.backend import LlamaBackend
from services.orchestrator import generation
from shieldmesh import channels
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc, inference_pb2, message_pb2

from .fakes import HangingShields, ThreadBackend, registry, shields
from .mesh import TIMEOUT, Mesh, deny, eventually, running, tasks_at_work
from .observing import observed


@asynccontextmanager
async def stopping(directory: Path, profile: dict[str, Any], **options: Any) -> AsyncGenerator[Mesh]:
    """A mesh, and afterwards the proof that nothing of the cancelled turns goes on in it."""
    with observed() as seen, pytest.MonkeyPatch.context() as patched:
        # Beyond it a stopped engine is cut off without its account: a bound in time, and no time is tested here.
        patched.setattr(generation, "STOP_SECONDS", TIMEOUT)
        async with running(directory, profiles={"default": profile, "plain": {}}, **options) as mesh:
            await mesh.client.chat("warm up", profile="plain", timeout=TIMEOUT).result()
            await mesh.idle()
            yield mesh
            await mesh.idle()
            await eventually(lambda: not tasks_at_work())
            await _others_alone_generate(mesh)
            await eventually(lambda: not seen.spans.open)
        assert seen.warnings() == []
        # The engine heard `stop`; that the call is cancelled, too, is for engines that hear nothing.
        ended = {line["reason"] for line in seen.lines() if line["event"] == "generation ended"}
        assert ended <= {"STOP", "CANCELLED"}


async def _others_alone_generate(mesh: Mesh) -> None:
    before = mesh.generated()
    other = await mesh.client.chat("word " * 300, profile="plain", timeout=TIMEOUT).result()
    assert other.finished.usage.completion_tokens >= 300
    assert mesh.generated() == before + other.finished.usage.completion_tokens
    await mesh.idle()


async def begun(mesh: Mesh) -> shieldmesh.Turn:
    """A turn whose first event has come."""
    turn = mesh.client.chat("hello", timeout=TIMEOUT)
    assert isinstance(await anext(turn), shieldmesh.Started)
    return turn


async def test_while_the_first_token_is_awaited(tmp_path: Path) -> None:
    """A client that cancels before the first token leaves an engine that generates nothing."""
    async with stopping(tmp_path, {"model": "never"}) as mesh:
        turn = await begun(mesh)
        await eventually(lambda: mesh.model("never").admission.running == 1)
        await turn.aclose()


async def _close(turn: shieldmesh.Turn) -> None:
    await turn.aclose()


async def _cancel_the_task(turn: shieldmesh.Turn) -> None:
    reader = asyncio.create_task(turn.result())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader], timeout=TIMEOUT)
    assert reader.cancelled()


async def _drop(turn: shieldmesh.Turn) -> None:
    async for _ in turn:
        break


@pytest.mark.parametrize("leave", [_close, _cancel_the_task, _drop])
@pytest.mark.parametrize("guards", [{}, {"output": {"shields": [deny("bluebird")]}}], ids=["bare", "guarded"])
async def test_in_the_middle_of_the_stream(
    tmp_path: Path, guards: dict[str, Any], leave: Callable[[shieldmesh.Turn], Awaitable[None]]
) -> None:
    """However a client leaves a stream, the engine stops."""
    async with stopping(tmp_path, {"model": "endless", **guards}) as mesh:
        turn = await begun(mesh)
        for _ in range(10):
            assert isinstance(await anext(turn), shieldmesh.Delta)
        await leave(turn)
        del turn


async def test_from_a_thread_without_a_loop(tmp_path: Path) -> None:
    """The blocking client's `close` stops the engine, too."""

    def read_a_little(target: str) -> None:
        with shieldmesh.connect_sync(target) as mesh, mesh.chat("hello", timeout=TIMEOUT) as turn:
            assert [next(turn).sequence for _ in range(5)] == [1, 2, 3, 4, 5]

    async with stopping(tmp_path, {"model": "endless"}) as mesh:
        await asyncio.to_thread(read_a_little, mesh.target("gateway"))


FORGETFUL = """
import asyncio, sys
import shieldmesh

kept = []

async def main():
    mesh = shieldmesh.connect(sys.argv[1])
    for _ in range(8):
        turn = mesh.chat("hello", timeout=10)
        kept.append(turn)
        await anext(turn)

asyncio.run(main())
"""


async def test_by_a_program_that_ends_in_the_middle(tmp_path: Path) -> None:
    """A program whose loop ends while turns are open ends without a complaint, and the engine stops."""
    async with stopping(tmp_path, {"model": "endless"}) as mesh:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FORGETFUL, mesh.target("gateway")), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(TIMEOUT):
            _, complaints = await program.communicate()
        assert (program.returncode, complaints.decode()) == (0, "")


@pytest.mark.parametrize("guards", [{}, {"output": {"shields": [deny("bluebird")]}}], ids=["bare", "guarded"])
async def test_while_a_write_waits_for_a_reader_that_stalls(tmp_path: Path, guards: dict[str, Any]) -> None:
    """A client that stops reading, and cancels when every window on the way is full, leaves nothing that waits."""
    async with stopping(tmp_path, {"model": "flood", **guards}) as mesh:
        stub = chat_pb2_grpc.ChatServiceStub(channels.get(mesh.target("gateway")))
        call = stub.Chat(_request("hello"), timeout=TIMEOUT)
        first = await call.read()
        assert isinstance(first, chat_pb2.ChatEvent)
        assert first.HasField("started")
        await _stands_still(mesh)
        assert 0 < mesh.generated() < 2_000
        assert mesh.model("flood").admission.running == 1
        call.cancel()


async def _stands_still(mesh: Mesh) -> None:
    """Returns when the engine has made no step while the loop went round often."""
    before = -1
    while before != mesh.generated():
        before = mesh.generated()
        for _ in range(200):
            await mesh.inference.ListModels(inference_pb2.ListModelsRequest(), timeout=TIMEOUT)


@pytest.mark.parametrize("mode", ["gate", "parallel"])
async def test_while_an_input_shield_is_slow(tmp_path: Path, mode: str) -> None:
    """A cancellation reaches the shield that is still looking at the input, and the engine if it was started beside."""
    hanging = HangingShields()
    profile = {"model": "endless", "input": {"mode": mode, "shields": [deny("bluebird")]}}
    async with stopping(tmp_path, profile, replaced={"shield": shields(hanging)}) as mesh:
        turn = await begun(mesh)
        await eventually(lambda: hanging.inspecting == 1)
        if mode == "parallel":
            await eventually(lambda: mesh.model("endless").admission.running == 1)
        await turn.aclose()
        await eventually(lambda: hanging.inspecting == 0)


async def test_while_an_output_shield_is_slow(tmp_path: Path) -> None:
    """A cancellation reaches the shield that holds all text, and the engine that wrote it."""
    hanging = HangingShields()
    profile = {"model": "endless", "output": {"shields": [deny("bluebird")]}}
    async with stopping(tmp_path, profile, replaced={"shield": shields(hanging)}) as mesh:
        turn = await begun(mesh)
        await eventually(lambda: hanging.inspecting == 1 and mesh.generated() > 10)
        await turn.aclose()
        await eventually(lambda: hanging.inspecting == 0)


async def test_while_waiting_for_a_place(tmp_path: Path) -> None:
    """A turn that is cancelled in the queue leaves it, and is never generated."""
    async with stopping(tmp_path, {"model": "narrow"}) as mesh:
        first, second = await begun(mesh), await begun(mesh)
        places = mesh.model("narrow").admission
        await eventually(lambda: (places.running, places.waiting) == (1, 1))
        await second.aclose()
        await eventually(lambda: (places.running, places.waiting) == (1, 0))
        await first.aclose()


async def test_while_the_engine_works_in_a_thread(tmp_path: Path) -> None:
    """A turn whose engine blocks in a thread ends without waiting for the thread."""
    backend = ThreadBackend()
    profile = {"model": "threads"}
    async with stopping(tmp_path, profile, models=registry(threads=backend)) as mesh:
        turn = await begun(mesh)
        await backend.blocked.wait()
        await turn.aclose()
        await mesh.idle()
        assert backend.generated_tokens == 2
        backend.let_go.set()


async def test_all_states_at_once(tmp_path: Path) -> None:
    """Many clients that leave at the same moment, each elsewhere in its turn, all leave nothing behind."""
    async with stopping(tmp_path, {"model": "endless"}) as mesh:
        turns = [mesh.client.chat("hello", timeout=TIMEOUT) for _ in range(32)]

        async def read(turn: shieldmesh.Turn, events: int) -> None:
            for _ in range(events):
                await anext(turn)

        await asyncio.gather(*(read(turn, number) for number, turn in enumerate(turns)))
        await asyncio.gather(*(turn.aclose() for turn in turns))


async def test_the_real_engine(tmp_path: Path) -> None:
    """llama.cpp stops, too: no thread is in it, and its counter stands still over the tokens of another turn."""
    model = {"name": "smollm2", "backend": "llamacpp", "max_running": 2, "options": {"context_window": 512}}
    profiles = {"default": {"model": "smollm2", "sampling": {"max_tokens": 400}, "allow_overrides": ["max_tokens"]}}
    async with running(tmp_path, models={"models": [model]}, profiles=profiles) as mesh:
        backend = mesh.model("smollm2").backend
        assert isinstance(backend, LlamaBackend)
        async with mesh.client.chat("Count to a thousand.", timeout=TIMEOUT) as turn:
            for _ in range(5):
                await anext(turn)
        await mesh.idle()
        assert backend.running == 0
        before = backend.generated_tokens
        sampling = shieldmesh.Sampling(max_tokens=5)
        other = await mesh.client.chat("Hello", sampling=sampling, timeout=TIMEOUT).result()
        assert backend.generated_tokens == before + other.finished.usage.completion_tokens


def _request(text: str) -> chat_pb2.ChatRequest:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.ContentPart(text=text)])
    return chat_pb2.ChatRequest(messages=[message])
