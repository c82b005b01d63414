"""Interim results between a handler's own messages."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shieldmesh.interceptors.progress import MOST_WAITING, gathered, streamed
from shieldmesh.publishing import progress
from shieldmesh.v1 import generation_pb2, inference_pb2, shield_pb2

GENERATE = "shieldmesh.v1.InferenceService/Generate"


class Wire:
    """What a call writes to, one message at a time."""

    def __init__(self, pauses: list[int] | None = None) -> None:
        self.written: list[Any] = []
        self._pauses = iter(pauses or [])
        self._busy = False

    async def write(self, message: object) -> None:
        assert not self._busy, "two messages at once"
        self._busy = True
        try:
            for _ in range(next(self._pauses, 0)):
                await asyncio.sleep(0)
        finally:
            self._busy = False
        self.written.append(message)

    def names(self) -> list[str]:
        """What was written, results by their name and all else by its kind."""
        return [event.progress.name or event.WhichOneof("event") for event in self.written]


def token(number: int) -> inference_pb2.GenerateEvent:
    return inference_pb2.GenerateEvent(delta=generation_pb2.Delta(text=str(number)))


END = inference_pb2.GenerateEvent(finished=inference_pb2.GenerateFinished())

STEPS = st.lists(st.sampled_from(["publish", "publish later", "write", "pause"]), max_size=30)


@given(STEPS, st.lists(st.integers(0, 4), max_size=40))
def test_order_is_kept_however_slow_the_caller(steps: list[str], pauses: list[int]) -> None:
    """Each result that was taken stands before the handler's next message, all in order, and none behind the last."""

    async def run() -> None:
        wire = Wire(pauses)
        loop = asyncio.get_running_loop()
        published: list[str] = []

        def publish(name: str) -> None:
            if progress(name):
                published.append(name)

        async with streamed(GENERATE, wire.write) as write:
            for number, step in enumerate(steps):
                match step:
                    case "publish":
                        publish(f"p{number}")
                    case "publish later":
                        loop.call_soon(publish, f"p{number}")
                    case "write":
                        before = list(published)
                        await write(token(number))
                        at = wire.names().index("delta", wire.written.index(token(number)))
                        assert [name for name in wire.names()[:at] if name != "delta"][: len(before)] == before
                    case _:
                        await asyncio.sleep(0)
            await write(END)
            assert not progress("behind")
            await asyncio.sleep(0)
        names = wire.names()
        assert names[-1] == "finished"
        assert [name for name in names if name.startswith("p")] == published
        assert names.count("delta") == steps.count("write")

    asyncio.run(run())


async def test_they_do_not_wait_for_the_next_message() -> None:
    """A result leaves while the handler waits for something else."""
    wire = Wire()
    async with streamed(GENERATE, wire.write):
        progress("at-once")
        await asyncio.sleep(0)
        assert wire.names() == ["at-once"]


async def test_a_caller_who_does_not_read_bounds_them() -> None:
    """Only so many wait; the handler that fails then leaves no task behind."""
    never = asyncio.Event()
    out: list[object] = []

    async def stuck(message: object) -> None:
        out.append(message)
        if len(out) > 1:  # the first message of a call waits for no reader
            await never.wait()

    async def handle() -> None:
        async with streamed(GENERATE, stuck):
            taken = [progress("many") for _ in range(MOST_WAITING + 10)]
            assert sum(taken) == MOST_WAITING
            await asyncio.sleep(0)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await handle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failure_waits_for_the_result_that_is_on_its_way() -> None:
    """Given up half-way, it would keep the status from the caller; what comes behind it is dropped."""
    on_its_way, read = asyncio.Event(), asyncio.Event()
    out: list[str] = []

    async def slow(message: inference_pb2.GenerateEvent) -> None:
        if message.progress.name == "slow":
            on_its_way.set()
            await read.wait()
        out.append(message.progress.name)

    async def handle() -> None:
        async with streamed(GENERATE, slow):
            for name in ("first", "slow", "dropped"):
                progress(name)
            await on_its_way.wait()
            raise ConnectionError

    failing = asyncio.create_task(handle())
    await on_its_way.wait()
    await asyncio.sleep(0)
    read.set()
    with pytest.raises(ConnectionError):
        await failing
    assert out == ["first", "slow"]


async def test_a_single_response_brings_them() -> None:
    """What was published while a response came about is in it; a method that has no place for it takes none."""

    async def answer() -> shield_pb2.InspectResponse:
        progress("first", {"n": 1})
        for _ in range(2 * MOST_WAITING):
            progress("second")
        return shield_pb2.InspectResponse()

    response = await gathered("shieldmesh.v1.ShieldService/Inspect", answer())
    assert [result.name for result in response.progress] == ["first", *["second"] * (MOST_WAITING - 1)]

    async def taken() -> bool:
        return progress("lost")

    assert not await gathered("shieldmesh.v1.ShieldService/ListShields", taken())
