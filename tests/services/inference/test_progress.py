"""Interim results of generations, of models here and of those at other services."""

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path

import pytest
from google.protobuf import json_format

from services.inference.admission import Admission
from services.inference.registry import Registry, ServedModel
from services.inference.remote.backend import RemoteBackend
from services.inference.remote.options import RemoteOptions
from shieldmesh.errors import ResourceExhaustedError
from shieldmesh.publishing import published_to
from shieldmesh.v1 import inference_pb2, progress_pb2

from .serving import ask, configuration, generating, serving
from .subjects import places

SLOW = {"name": "m", "max_running": 1, "max_waiting": 2, "options": {"text": "a b", "pace": 0.001}}


async def test_who_waits_for_a_place_hears_so(tmp_path: Path) -> None:
    """A generation that waits is told, before it starts, how many wait; one that need not wait is told nothing."""
    async with (
        serving(configuration(SLOW), tmp_path) as stub,
        generating(stub, ask("m")) as running,
    ):
        assert (await anext(aiter(running))).HasField("started")
        async with generating(stub, ask("m")) as second:
            assert await _waiting(second) == 1
            async with generating(stub, ask("m")) as third:
                assert await _waiting(third) == 2


async def test_who_waits_at_another_service_hears_so(tmp_path: Path) -> None:
    """What the service of the model publishes passes the service in between."""
    (tmp_path / "inner").mkdir()
    far = RemoteBackend("near", RemoteOptions(url=f"unix:{tmp_path / 'inner' / 'inference.sock'}", model="m"))
    near = Registry({"near": ServedModel("near", "grpc", far, places("near"))})
    async with (
        serving(configuration(SLOW), tmp_path / "inner") as inner,
        serving(near, tmp_path) as stub,
        generating(inner, ask("m")) as running,
        generating(stub, ask("near")) as waiting,
    ):
        await anext(aiter(running))
        events: list[inference_pb2.GenerateEvent] = []
        async for event in waiting:
            events.append(event)
            if event.HasField("progress"):
                break
        assert [event.WhichOneof("event") for event in events] == ["started", "progress"]
        assert events[-1].progress.name == "queue"


async def test_those_who_begin_to_wait_in_the_same_moment_are_told_apart() -> None:
    """Each is counted before the next is told."""
    told: list[object] = []

    def take(result: progress_pb2.Progress) -> bool:
        told.append(json_format.MessageToDict(result.payload)["waiting"])
        return True

    model = Admission("m", max_running=1, max_waiting=2)
    running = await model.enter()
    with published_to(take):
        waiting = [asyncio.create_task(model.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhaustedError):
            await model.enter()
    assert told == [1, 2]
    running.leave()
    (await waiting[0]).leave()
    (await waiting[1]).leave()


async def _waiting(generation: AsyncIterable[inference_pb2.GenerateEvent]) -> object:
    """How many wait, as the first event of a generation says."""
    event = await anext(aiter(generation))
    assert event.progress.name == "queue"
    return json_format.MessageToDict(event.progress.payload)["waiting"]
