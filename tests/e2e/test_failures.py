"""Services that die, end, or are left by their clients, in the middle of turns."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest

import shieldmesh
from shieldmesh import Delta, Finished, FinishReason, Started, Turn, UnavailableError
from tests.e2e import engine, policies
from tests.e2e.engine import TIMEOUT
from tests.e2e.mesh import Mesh

PATHS = {
    "gateway": [],
    "orchestrator": ["gateway", "orchestrator"],
    "shield": ["gateway", "orchestrator", "shield"],
    "inference": ["gateway", "orchestrator", "inference"],
}
"""Where each death is seen from: the call path of the error that it causes."""


@pytest.mark.parametrize("name", PATHS)
async def test_a_service_that_dies_fails_the_running_turn_alone(own_mesh: Mesh, name: str) -> None:
    """The turn ends with a typed error that names the dead service; once it is back, the next turn is whole."""
    async with shieldmesh.connect(own_mesh.url) as client:
        async with client.chat("", profile="slow", timeout=TIMEOUT) as turn:
            await first_text(turn)
            with killed(own_mesh, name), pytest.raises(UnavailableError) as failure:
                await rest(turn)
        result = await client.chat("here again", profile="repeat", timeout=TIMEOUT).result()
    assert [hop.service for hop in failure.value.hops][: len(PATHS[name])] == PATHS[name]
    assert failure.value.reason == "SERVICE_UNAVAILABLE"
    assert result.text == "here again"


@pytest.mark.parametrize("name", PATHS)
async def test_a_service_that_is_told_to_end_finishes_its_turns(own_mesh: Mesh, name: str) -> None:
    """SIGTERM in the middle of a turn: the turn is whole, the process ends with 0, no traceback and no orphan."""
    pid = own_mesh.pid(name)
    async with shieldmesh.connect(own_mesh.url) as client, client.chat("", profile="brief", timeout=TIMEOUT) as turn:
        begun = await first_text(turn)
        ended = asyncio.create_task(asyncio.to_thread(own_mesh.terminate, name))
        try:
            assert begun + await rest(turn) == policies.SHORT
        finally:
            await ended
            own_mesh.start(name)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


async def test_a_client_that_leaves_stops_the_engine_and_every_stream(own_mesh: Mesh) -> None:
    """After clients cancelled, the engine generates nothing more, and no service holds a stream that it must await."""
    async with shieldmesh.connect(own_mesh.url) as client:
        # Their own time limit must not be what ends them.
        turns = [client.chat("", profile="slow", timeout=10 * TIMEOUT) for _ in range(8)]
        await asyncio.gather(*map(first_text, turns))
        assert (await engine.model(own_mesh, "script")).running == 8
        await asyncio.gather(*(turn.aclose() for turn in turns))

    stopped = await engine.until(own_mesh, "script", lambda now: now.running == 0)
    async with shieldmesh.connect(own_mesh.url) as client:
        # Other work in between, long enough for an engine that runs on to show it.
        assert await client.chat("", profile="single", timeout=TIMEOUT).text() == policies.REDACTED
    assert (await engine.model(own_mesh, "script")).generated_tokens == stopped.generated_tokens + len(
        policies.SENTENCE
    )
    # A service with a stream left would wait for its end: minutes, by this mesh's settings.
    for name in ("shield", "orchestrator", "gateway", "inference"):
        await asyncio.to_thread(own_mesh.terminate, name)
    own_mesh.start()


async def test_a_deadline_ends_the_turn_everywhere(own_mesh: Mesh) -> None:
    """A client's short deadline is a typed error, and the engine stops for it as for a cancellation."""
    async with shieldmesh.connect(own_mesh.url) as client:
        with pytest.raises(shieldmesh.DeadlineExceededError):
            await client.chat("", profile="slow", timeout=0.5).text()
    await engine.until(own_mesh, "script", lambda now: now.running == 0)


@contextmanager
def killed(mesh: Mesh, name: str) -> Generator[None]:
    """Without this service, which is back after the block."""
    # Not in a thread: a service dies with the thread that started it.
    mesh.kill(name)
    try:
        yield
    finally:
        mesh.start(name)


async def first_text(turn: Turn) -> str:
    """Reads up to the first text."""
    assert isinstance(await anext(turn), Started)
    async for event in turn:
        if isinstance(event, Delta):
            return event.text
    raise AssertionError("the turn has no text")


async def rest(turn: Turn) -> str:
    """The text up to the end of the turn, which must be a good one."""
    events = [event async for event in turn]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    return "".join(event.text for event in events if isinstance(event, Delta))
