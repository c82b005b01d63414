"""P1: what is published in one turn, from any of its tasks and threads, reaches that turn and no other."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import shieldmesh
from services.inference.backend import GenerationRequest, Step, Usage
from services.inference.replay import Replay, ReplayBackend, ReplayOptions
from shieldmesh import Progress, context
from shieldmesh.v1 import shield_pb2, shield_pb2_grpc

from .fakes import HangingShields, registry, shields
from .jitter import shake
from .mesh import TIMEOUT, deny, running

TURNS = 32
WORDS = 6


def publish(owner: str, place: str) -> None:
    """What a publisher in a thread or a task does; the thread says it twice, so that two are on the way."""
    for _ in range(2):
        assert shieldmesh.progress(place, {"owner": owner})


async def publish_everywhere(owner: str, pool: ThreadPoolExecutor, place: str) -> None:
    """Publishes from a task, from the loop's threads, and from another pool, all at the same time."""

    async def task() -> None:
        await asyncio.sleep(0)
        publish(owner, f"{place}-task")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(task())
        tasks.create_task(context.run_in_thread(publish, owner, f"{place}-thread"))
        bound = pool.submit(context.bind(publish), owner, f"{place}-pool")
        await asyncio.wrap_future(bound)


class PublishingBackend(ReplayBackend):
    """Echoes, and publishes with each step; the first word of a prompt is its owner."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(ReplayOptions(echo=True, pace=1_000))
        self._pool = pool

    def generate(self, request: GenerationRequest) -> "PublishingGeneration":  # type: ignore[override]
        """See `Backend.generate`."""
        return PublishingGeneration(super().generate(request), request.messages[-1].text.split()[0], self._pool)


class PublishingGeneration:
    """One generation of a `PublishingBackend`."""

    def __init__(self, replay: Replay, owner: str, pool: ThreadPoolExecutor) -> None:
        self._replay = replay
        self._owner = owner
        self._pool = pool

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        return self._replay.usage

    async def batches(self) -> AsyncGenerator[Sequence[Step]]:
        """See `Generation.batches`."""
        for _ in range(WORDS):
            await publish_everywhere(self._owner, self._pool, "model")
        async for batch in self._replay.batches():
            yield batch

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._replay.stop()


class PublishingShields(HangingShields):
    """Clear everything, and publish for each text."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self._pool = pool

    async def Inspect(  # noqa: N802  # the contract's name
        self, request: shield_pb2.InspectRequest, context: object
    ) -> shield_pb2.InspectResponse:
        del context
        await publish_everywhere(request.texts[-1].split()[0], self._pool, "input")
        return shield_pb2.InspectResponse()

    async def InspectStream(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[shield_pb2.InspectStreamRequest], context: object
    ) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        del context
        yield shield_pb2.InspectStreamResponse(opened=shield_pb2.InspectOpened())
        owner = ""
        async for request in request_iterator:
            if request.HasField("text"):
                text = request.text
                if not owner:
                    owner = text.text.split()[0]
                    await publish_everywhere(owner, self._pool, "output")
                seen = text.offset + len(text.text)
                yield shield_pb2.InspectStreamResponse(
                    clearance=shield_pb2.Clearance(lane=text.lane, watermark=seen, seen=seen)
                )


async def test_turns_at_once_publish_from_threads_and_tasks(tmp_path: Path) -> None:
    """Each of 32 turns gets all that was published for it, at both services, exactly once, and nothing else."""
    profiles = {"default": {"model": "busy", "input": {"shields": [deny("x")]}, "output": {"shields": [deny("x")]}}}

    async def read(client: shieldmesh.Mesh, owner: str) -> list[shieldmesh.Event]:
        async with client.chat(f"{owner} " * WORDS, session=owner, timeout=TIMEOUT) as turn:
            return [event async for event in turn]

    owners = [f"owner-{number}" for number in range(TURNS)]
    with ThreadPoolExecutor(8) as pool:
        shake(asyncio.get_running_loop(), 7)
        servicer: shield_pb2_grpc.ShieldServiceServicer = PublishingShields(pool)
        async with running(
            tmp_path,
            profiles=profiles,
            models=registry(busy=PublishingBackend(pool)),
            replaced={"shield": shields(servicer)},
        ) as mesh:
            turns = await asyncio.gather(*(read(mesh.client, owner) for owner in owners))
    places = [f"{who}-{where}" for who in ("input", "model", "output") for where in ("pool", "task", "thread")]
    for owner, events in zip(owners, turns, strict=True):
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        published = [event for event in events if isinstance(event, Progress)]
        assert {event.payload["owner"] for event in published} == {owner}
        assert Counter(event.name for event in published) == {
            place: 2 * (WORDS if place.startswith("model") else 1) for place in places
        }
