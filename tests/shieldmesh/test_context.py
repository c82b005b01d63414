"""Who a piece of work belongs to, and that it stays so."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from uuid import UUID

import pytest

from shieldmesh import context
from shieldmesh.context import RequestContext


def test_outside_a_call_it_is_empty() -> None:
    """Code that works for nobody sees an empty identity and no deadline."""
    assert context.current() == RequestContext()
    assert context.current().remaining() is None


def test_nobody_can_write_it() -> None:
    """Neither a field nor a session value can be changed in place."""
    ours = RequestContext(session_id="a", values=MappingProxyType({"tone": "kind"}))
    with pytest.raises(FrozenInstanceError):
        ours.session_id = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # what is tested
    with pytest.raises(TypeError):
        ours.values["tone"] = "rude"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # what is tested


async def test_concurrent_tasks_keep_their_own() -> None:
    """Tasks that take turns each see their own context at every step, and none is left behind."""

    async def work(name: str) -> list[str]:
        with context.use(RequestContext(session_id=name)):
            seen: list[str] = []
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(context.current().session_id)
                seen.append(await asyncio.create_task(inherited()))
            return seen

    async def inherited() -> str:
        await asyncio.sleep(0)
        return context.current().session_id

    names = [f"session-{number}" for number in range(20)]
    assert await asyncio.gather(*map(work, names)) == [[name] * 10 for name in names]
    assert context.current() == RequestContext()


async def test_threads_get_it_with_the_call() -> None:
    """`run_in_thread` carries each caller's context to its thread, and the thread keeps nothing of it."""

    async def work(name: str) -> str:
        with context.use(RequestContext(session_id=name)):
            return await context.run_in_thread(blocking, "!")

    def blocking(suffix: str) -> str:
        return context.current().session_id + suffix

    names = [f"session-{number}" for number in range(40)]
    assert await asyncio.gather(*map(work, names)) == [f"{name}!" for name in names]
    bare = asyncio.get_running_loop().run_in_executor(None, context.current)
    assert await bare == RequestContext()


async def test_an_exception_in_a_thread_is_the_callers() -> None:
    """What the function raises, `run_in_thread` raises."""
    with pytest.raises(ZeroDivisionError):
        await context.run_in_thread(lambda: 1 / 0)


def test_bind_carries_the_moment() -> None:
    """A bound callable sees the context of when it was bound: in any thread, many times, also at once."""
    with context.use(RequestContext(session_id="then")):
        bound = context.bind(lambda: context.current().session_id)
    with ThreadPoolExecutor(4) as pool, context.use(RequestContext(session_id="now")):
        assert {task.result(TIMEOUT) for task in [pool.submit(bound) for _ in range(20)]} == {"then"}
        assert bound() == "then"
        assert context.current().session_id == "now"


def test_what_a_bound_callable_sets_stays_inside() -> None:
    """Each run has a context of its own: nothing leaks to the next."""

    def enter() -> str:
        before = context.current().session_id
        context.use(RequestContext(session_id="leaked")).__enter__()
        return before

    with context.use(RequestContext(session_id="ours")):
        bound = context.bind(enter)
    assert [bound(), bound()] == ["ours", "ours"]


def test_use_ends_with_its_block() -> None:
    """Contexts nest, and the outer one is back also after an error."""
    with context.use(RequestContext(session_id="outer")):
        with pytest.raises(KeyError), context.use(RequestContext(session_id="inner")):
            raise KeyError
        assert context.current().session_id == "outer"


def test_a_deadline_in_the_past_leaves_nothing() -> None:
    """The remaining time is never negative."""
    assert RequestContext(deadline=0.0).remaining() == 0.0


def test_it_can_be_sent_to_another_process() -> None:
    """A pickled context comes back equal, its values still read-only."""
    ours = RequestContext("s", "r", "t", "p", "v", 5.0, MappingProxyType({"tone": "kind"}))
    back = pickle.loads(pickle.dumps(ours))  # noqa: S301  # our own
    assert back == ours
    assert isinstance(back.values, MappingProxyType)


def test_ids_are_unique_and_sorted_by_time() -> None:
    """New ids are UUIDv7s, all different, in the order of their making."""
    ids = [context.new_id() for _ in range(1000)]
    assert {UUID(each).version for each in ids} == {7}
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)


TIMEOUT = 60.0
