"""Modules that are functions and objects of this process."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

import shieldmesh
from shieldmesh import Ask, Delta, Finished, Message, Module, Sampling, Started, context


async def greets(ask: Ask) -> AsyncGenerator[str | shieldmesh.Event]:
    """Repeats the last message."""
    yield "hello, "
    yield Delta(0, ask.messages[-1].text, token_count=2)


async def test_a_function_is_a_module() -> None:
    """Texts and deltas become numbered events between started and finished, with their tokens and characters."""
    events = [event async for event in Module(greets).chat("you")]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert events[-1].usage == shieldmesh.Usage(completion_tokens=2, total_tokens=2)
    assert events[-1].receipt.generated_characters == events[-1].receipt.released_characters == 10
    assert (await Module(greets).ask("you")).text == "hello, you"


class Talker:
    """Has the method of a mesh."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Message], Any]] = []

    async def chat(self, prompt: Sequence[Message], **how: Any) -> AsyncGenerator[str]:
        self.asked.append((prompt, how))
        yield "yes"


async def test_an_object_with_chat_is_a_module() -> None:
    """It is asked as a mesh is; so one module can stand behind another."""
    talker = Talker()
    module = Module(Module(talker))
    sampling = Sampling(max_tokens=5)
    assert (await module.ask("no?", sampling=sampling, timeout=7)).text == "yes"
    assert talker.asked == [((Message("user", "no?"),), {"sampling": sampling, "timeout": 7})]


async def test_what_a_function_raises_is_typed() -> None:
    """A typed error stays what it is, anything else says nothing of its text; both name the module as a hop."""

    async def refuses(ask: Ask) -> AsyncGenerator[str]:
        yield "so far"
        if ask.messages[-1].text == "typed":
            raise shieldmesh.UnavailableError("later", reason="LATER")
        raise ValueError("a secret")

    with pytest.raises(shieldmesh.UnavailableError, match="later") as typed:
        await Module(refuses).ask("typed")
    with pytest.raises(shieldmesh.InternalError) as other:
        await Module(refuses).ask("other")
    assert "a secret" not in str(other.value)
    assert [[(hop.service, hop.method) for hop in caught.value.hops] for caught in (typed, other)] == [
        [("local", "refuses")]
    ] * 2


async def test_leaving_an_answer_ends_the_function() -> None:
    """A reader that leaves early has the function's cleanup run."""
    ended = asyncio.Event()

    async def endless(ask: Ask) -> AsyncGenerator[str]:
        try:
            while True:
                yield ask.messages[-1].text
        finally:
            ended.set()

    async with Module(endless).chat("again") as answer:
        for _ in range(3):
            await anext(answer)
    assert ended.is_set()


@pytest.mark.parametrize("by", ["timeout", "deadline"])
async def test_a_function_that_takes_too_long(by: str) -> None:
    """The timeout of the call and the deadline of the current context hold for a function, too."""

    async def sleeps(ask: Ask) -> AsyncGenerator[str]:
        await asyncio.Event().wait()
        yield repr(ask)

    now = asyncio.get_running_loop().time()
    identity = context.current() if by == "timeout" else replace(context.current(), deadline=now + 0.01)
    with context.use(identity), pytest.raises(shieldmesh.DeadlineExceededError):
        await Module(sleeps).ask("x", timeout=0.01 if by == "timeout" else 60)


def test_what_is_no_module_is_refused() -> None:
    """Something that cannot be talked to, a timeout of nothing and a key without a server are told at once."""
    with pytest.raises(TypeError, match="is no module"):
        Module(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="api_key"):
        Module(greets, api_key="k")
    with pytest.raises(shieldmesh.InvalidArgumentError):
        Module(greets).chat("x", timeout=0)
