"""What may be published, where it goes, and where it goes nowhere."""

import asyncio
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

import shieldmesh
from shieldmesh import context, publishing
from shieldmesh.publishing import forward, progress, published_to
from shieldmesh.v1 import progress_pb2


class Taken(list[progress_pb2.Progress]):
    """Takes everything."""

    def take(self, result: progress_pb2.Progress) -> bool:
        self.append(result)
        return True

    def payloads(self) -> list[dict[str, object]]:
        return [json_format.MessageToDict(result.payload) for result in self]


def nested(levels: int) -> dict[str, object]:
    payload: dict[str, object] = {}
    for _ in range(levels - 1):
        payload = {"deeper": payload}
    return payload


async def test_it_goes_to_the_call_from_its_tasks_and_threads() -> None:
    """Whatever runs in the call's context publishes into it."""
    taken = Taken()
    with published_to(taken.take), ThreadPoolExecutor(1) as pool:
        assert shieldmesh.progress("here", {"n": 1, "deep": [None, True, {"t": "é"}]})
        assert await asyncio.create_task(_later())
        assert await context.run_in_thread(progress, "thread", {})
        assert await asyncio.wrap_future(pool.submit(context.bind(progress), "pool"))
        await asyncio.sleep(0)
    assert [result.name for result in taken] == ["here", "task", "thread", "pool"]
    assert taken.payloads()[0] == {"n": 1, "deep": [None, True, {"t": "é"}]}


async def _later() -> bool:
    await asyncio.sleep(0)
    return progress("task")


async def test_it_goes_nowhere_without_a_turn() -> None:
    """Outside of a call, behind its end, in a worker of all turns, and in a plain thread nothing is taken."""
    taken = Taken()
    assert not progress("nobody")
    with published_to(taken.take):
        late = asyncio.create_task(_behind(asyncio.Event()))
        bound = context.bind(progress)
        assert not context.detached().run(progress, "worker")
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(progress, "plain").result()
    assert not progress("behind")
    assert not await late
    assert not await asyncio.to_thread(bound, "thread-behind")
    assert not taken


async def _behind(never: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(0):
            await never.wait()
    except TimeoutError:
        pass
    return progress("late")


async def test_what_a_thread_said_in_time_is_not_taken_behind_the_end() -> None:
    """A result that still waits for the loop when the call ends does not reach what the call has become."""
    taken = Taken()
    with published_to(taken.take):
        thread = threading.Thread(target=context.bind(progress), args=("waits",))
        thread.start()
        thread.join()  # the loop has no chance to take it
    await asyncio.sleep(0)
    assert not taken


async def test_one_call_takes_so_many_and_no_more() -> None:
    """The limit counts what was taken, from everywhere."""
    taken = Taken()
    with published_to(taken.take):
        said = [progress("count", {"n": number}) for number in range(publishing.MOST + 5)]
    assert said == [True] * publishing.MOST + [False] * 5
    assert len(taken) == publishing.MOST


async def test_threads_do_not_flood_a_busy_loop() -> None:
    """While the loop is busy only so much waits for it; afterwards there is room again."""
    taken = Taken()

    def flood() -> list[bool]:
        return [progress("flood") for _ in range(publishing.MOST_WAITING + 5)]

    with published_to(taken.take):
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(context.bind(flood)).result() == [True] * publishing.MOST_WAITING + [False] * 5
        await asyncio.sleep(0)
        assert len(taken) == publishing.MOST_WAITING
        assert await context.run_in_thread(progress, "again")


@pytest.mark.parametrize("name", ["", "Upper", "a b", "x" * 65, "é"])
async def test_names_are_few_characters(name: str) -> None:
    """A name outside the contract is refused, whether somebody listens or not."""
    with pytest.raises(shieldmesh.InvalidArgumentError) as refused:
        progress(name)
    assert refused.value.field == "name"


@pytest.mark.parametrize(
    "payload",
    [
        {"x": object()},
        {"x": math.nan},
        {"x": {1, 2}},
        {"x": "\ud800"},
        {"x": b"bytes"},
        {"x": "y" * 4_096},
        nested(17),
    ],
)
async def test_payloads_are_small_json(payload: Mapping[str, object]) -> None:
    """What JSON cannot say, or is too much, is refused without being quoted."""
    with pytest.raises(shieldmesh.InvalidArgumentError) as refused:
        progress("name", payload)
    assert refused.value.field == "payload"
    assert "yyy" not in str(refused.value)


async def test_the_largest_payloads_pass_every_hop() -> None:
    """What a publisher may say is what other services pass on, in whatever form it is largest."""
    taken = Taken()
    with published_to(taken.take):
        for payload in ({"x": "y" * 4_080}, {"x": [0] * 1_360}, nested(16)):
            assert progress("name", payload)
            assert forward(progress_pb2.Progress.FromString(taken[-1].SerializeToString()))
    assert len(taken) == 6


async def test_what_breaks_the_contract_is_not_passed_on() -> None:
    """Other services cannot bring names or sizes into a turn that its own code could not."""
    taken = Taken()
    with published_to(taken.take):
        assert not forward(progress_pb2.Progress(name="Upper"))
        large = json_format.ParseDict({"x": "y" * 20_000}, Struct())
        assert not forward(progress_pb2.Progress(name="large", payload=large))
    assert not taken
    assert not forward(progress_pb2.Progress(name="nobody"))
