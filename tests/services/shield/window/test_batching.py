"""Batching: one model works for many turns, each of which gets its own answer and bears its own fate."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from services.shield.shield import ShieldError
from services.shield.window.batching import Batcher
from shieldmesh import channels, context
from shieldmesh.context import RequestContext
from tests.promises.observing import observed

from .models import Gate


async def until(true: Callable[[], object]) -> None:
    """Returns when something has become true."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  # a thread makes it true
            await asyncio.sleep(0.001)


async def test_what_waits_while_a_batch_runs_is_the_next_batch() -> None:
    """The first window is looked at at once; those that come meanwhile together, as many as fit."""
    gate = Gate()
    batcher = Batcher(gate, name="gate", max_batch=3)
    asking = [asyncio.create_task(batcher.ask("a"))]
    await until(lambda: gate.batches)
    asking += [asyncio.create_task(batcher.ask(text)) for text in ("bb", "ccc", "dddd", "eeeee")]
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.wait_for(asyncio.gather(*asking), 30) == [1, 2, 3, 4, 5]
    assert gate.batches == [["a"], ["bb", "ccc", "dddd"], ["eeeee"]]


async def test_a_window_that_nobody_waits_for_disturbs_no_other() -> None:
    """A turn that ends takes its own window out of the queue or leaves its answer; the others get theirs."""
    gate = Gate()
    batcher = Batcher(gate, name="gate")
    running = asyncio.create_task(batcher.ask("running"))
    await until(lambda: gate.batches)
    waiting, left = asyncio.create_task(batcher.ask("waiting")), asyncio.create_task(batcher.ask("left"))
    await asyncio.sleep(0)
    running.cancel()
    left.cancel()
    await asyncio.wait([running, left])
    gate.open.set()
    assert await asyncio.wait_for(waiting, 30) == len("waiting")
    assert gate.batches == [["running"], ["waiting"]]


async def test_a_failure_is_that_of_its_batch_alone() -> None:
    """Those whose batch failed are told so, without the model's own words; the next batch is as good as any."""
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, name="gate")
    with pytest.raises(ShieldError, match=r"^SHIELD_MODEL_FAILED$"):
        await batcher.ask("bad")
    assert await batcher.ask("good") == 4


async def test_a_model_that_says_too_little_has_failed() -> None:
    """Answers that do not belong to all windows of a batch are no answers."""

    def silent(_texts: object) -> list[int]:
        return []

    with pytest.raises(ShieldError, match=r"^SHIELD_MODEL_FAILED$"):
        await Batcher(silent, name="silent").ask("a")


async def test_more_than_may_wait_is_refused() -> None:
    """A queue has an end, beyond which a window fails at once."""
    gate = Gate()
    batcher = Batcher(gate, name="gate", max_waiting=1)
    asking = [asyncio.create_task(batcher.ask("a"))]
    await until(lambda: gate.batches)
    asking.append(asyncio.create_task(batcher.ask("b")))
    await asyncio.sleep(0)
    with pytest.raises(ShieldError, match=r"^SHIELD_UNAVAILABLE$"):
        await batcher.ask("c")
    gate.open.set()
    await asyncio.wait_for(asyncio.gather(*asking), 30)


async def test_the_model_works_in_a_thread_for_nobody_in_particular() -> None:
    """Off the loop, and not in the name of the turn that happened to come first."""
    seen: list[RequestContext] = []

    def look(texts: list[str]) -> list[int]:
        seen.append(context.current())
        assert threading.current_thread() is not threading.main_thread()
        return [0 for _ in texts]

    batcher = Batcher(look, name="look")  # type: ignore[arg-type]  # a list is a sequence
    with context.use(RequestContext(request_id="first")):
        await batcher.ask("a")
        assert context.current().request_id == "first"
    assert seen == [RequestContext()]


async def test_a_failed_batch_is_told_in_nobodys_name() -> None:
    """The log line about a batch of many turns bears the identity of none."""
    gate = Gate()
    gate.open.set()
    with observed() as seen, context.use(RequestContext(request_id="first", session_id="first")):
        with pytest.raises(ShieldError):
            await Batcher(gate, name="gate").ask("bad")
        (line,) = seen.lines()
    assert (line["event"], line["error_type"], line["windows"]) == ("model failed", "RuntimeError", 1)
    assert not {"first", "a secret"} & set(map(str, line.values()))


def test_a_model_serves_several_loops() -> None:
    """Each loop has a queue of its own; what waited on one that ended does not matter to the next."""
    gate = Gate()
    batcher = Batcher(gate, name="gate")

    async def leave() -> None:
        task = asyncio.create_task(batcher.ask("left"))
        await until(lambda: gate.batches)
        task.cancel()
        gate.open.set()

    async def stay() -> int:
        return await batcher.ask("stay")

    asyncio.run(leave())
    assert asyncio.run(stay()) == 4
    asyncio.run(channels.close())
