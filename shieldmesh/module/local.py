"""A module in this process: a function or an object of the application's own."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from shieldmesh import context
from shieldmesh.client.events import Delta, Event, Finished, FinishReason, Reconnected, Started, Usage
from shieldmesh.errors import DeadlineExceededError, Hop
from shieldmesh.interceptors.errors import typed
from shieldmesh.module.story import Story
from shieldmesh.module.target import Ask

Talk = Callable[[Ask], AsyncGenerator[str | Event]]
"""Answers with texts, or with events for what a text cannot say; their sequence numbers do not matter."""


@runtime_checkable
class Chatty(Protocol):
    """Something with the method of `shieldmesh.Mesh` and `shieldmesh.Module`."""

    @property
    def chat(self) -> Callable[..., AsyncIterable[Any]]:  # Any: events or texts, as it comes
        """Takes a prompt and, by name, `sampling`, `timeout`, and `tools` where there are some; gives the answer."""
        ...


class LocalTarget:
    """One function or object; see `shieldmesh.module.target.Target`."""

    def __init__(self, talker: "Talk | Chatty") -> None:
        self._talker = talker
        self._name = str(getattr(talker, "__name__", type(talker).__name__))

    async def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """See `Target.answer`. What the function raises becomes a typed error, its text left out."""
        begun = time.monotonic()
        story = Story(self._name)
        until = asyncio.get_running_loop().time() + _allowed(ask.timeout)
        yield story.started()
        said = aiter(_open(self._talker, ask))
        last: Finished | None = None
        try:
            # The limit is around each step and never around a `yield`: there it could cancel the reader.
            while (step := await _next(said, until)) is not None:
                if isinstance(step, Finished):
                    last = step
                elif not isinstance(step, Started):
                    yield _retold(step, story)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except (Exception, BaseExceptionGroup) as error:
            failure = typed(error)
            failure.seen_by(Hop("local", self._name, elapsed=time.monotonic() - begun, reason=failure.reason))
            raise failure from error
        finally:
            if isinstance(said, AsyncGenerator):
                await said.aclose()
        seen = Usage(completion_tokens=story.tokens, total_tokens=story.tokens)
        yield story.finished(last.reason, last.usage) if last else story.finished(FinishReason.STOP, seen)


def _open(talker: "Talk | Chatty", ask: Ask) -> AsyncIterable[str | Event]:
    if not isinstance(talker, Chatty):
        return talker(ask)
    tools = {"tools": ask.tools} if ask.tools else {}
    return talker.chat(ask.messages, sampling=ask.sampling, timeout=ask.timeout, **tools)


def _allowed(timeout: float | None) -> float:
    remaining = context.current().remaining()
    return min(math.inf if each is None else each for each in (timeout, remaining))


async def _next(said: AsyncIterator[str | Event], until: float) -> "str | Event | None":
    limit = asyncio.timeout_at(None if math.isinf(until) else until)
    try:
        async with limit:
            return await anext(said, None)
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceededError("the module did not answer within its time") from None
        raise


def _retold(step: "str | Event", story: Story) -> Event:
    match step:
        case str():
            return story.delta(step)
        case Delta():
            return story.delta(
                step.text,
                reasoning=step.reasoning,
                tool_call=step.tool_call,
                choice=step.choice,
                tokens=step.token_count,
            )
        case Reconnected():
            return replace(step, after=story.sequence)
        case _:
            return replace(step, sequence=story.number())
