"""A model of an OpenAI-compatible server. Needs the packages of the extra `services`."""

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from shieldmesh import context, http
from shieldmesh.client.conversation import message_to_wire, tool_to_wire
from shieldmesh.client.events import Delta, Event, FinishReason, ToolCallDelta, Usage
from shieldmesh.errors import DeadlineExceededError
from shieldmesh.generation import Finish, GenerationRequest, Message, Output, Role, Sampling, Tool, ToolCall
from shieldmesh.module.story import Story
from shieldmesh.module.target import Ask
from shieldmesh.openai import failures
from shieldmesh.openai.answer import Answer
from shieldmesh.openai.body import Dialect, server_request
from shieldmesh.openai.chunks import ChunkReader

CONNECT: Final = 5.0
"""Seconds to open a connection."""
SILENCE: Final = 60.0
"""Seconds to the first token, and from one to the next."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Server:
    """See `shieldmesh.openai.body.Server`: any server, of which nothing special is known."""

    model: str
    dialect: Dialect = "openai"
    max_tokens_field: str = "max_tokens"
    tools: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: JSON


class OpenAITarget:
    """One model of one server; see `shieldmesh.module.target.Target`.

    One request for each answer and no other attempt: what a server in trouble needs, the backend `openai` of an
    inference service has.

    Attributes:
        base_url: Below it lies `chat/completions`.
        model: What the server calls the model.
    """

    def __init__(self, base_url: str, model: str, key: str) -> None:
        self.base_url = base_url
        self.model = model
        self._authorization = f"Bearer {key}" if key else ""

    async def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """See `Target.answer`. Closing it closes the connection, at which these servers stop."""
        body = server_request(_request(ask), _Server(self.model))
        patience = _Patience(ask.timeout)
        reader, story = ChunkReader(), Story(self.model)
        # As many connections as answers: how many there are is the application's business.
        client = http.get(self.base_url, authorization=self._authorization, connections=None)
        answer = Answer(client, reader)
        try:
            await patience.wait(answer, answer.open(body, CONNECT))
            yield story.started()
            while True:
                for step in await patience.wait(answer, answer.read()):
                    if isinstance(step, Finish):
                        await answer.drain()
                        used = reader.usage
                        cost = Usage(used.prompt, used.cached, used.completion, used.total)
                        yield story.finished(FinishReason(step.reason.name.lower()), cost)
                        return
                    yield _delta(step, story)
        finally:
            await answer.close()


class _Patience:
    """How long an answer may take, as a whole and between its tokens."""

    def __init__(self, timeout: float | None) -> None:
        self._clock = asyncio.get_running_loop().time
        given = (each for each in (timeout, context.current().remaining()) if each is not None)
        self._until = self._clock() + min(given, default=math.inf)

    async def wait(self, answer: Answer, work: Coroutine[object, object, T]) -> T:
        """What `work` gives.

        Raises:
            MeshError: it took too long, or failed.
        """
        silence = self._clock() + SILENCE
        try:
            async with asyncio.timeout_at(min(self._until, silence)):
                return await work
        except TimeoutError:
            if self._until <= silence:
                raise answer.failed(DeadlineExceededError("the module did not answer within its time")) from None
            raise answer.failed(failures.timeout("the next token", SILENCE)) from None


def _delta(output: Output, story: Story) -> Delta:
    call = output.tool
    fragment = ToolCallDelta(call.index, call.id, call.name, call.arguments) if call else None
    return story.delta(
        output.text, reasoning=output.reasoning, tool_call=fragment, choice=output.choice, tokens=output.token_count
    )


def _request(ask: Ask) -> GenerationRequest:
    for index, message in enumerate(ask.messages):
        message_to_wire(message, index)  # it checks
    given = ask.sampling
    sampling = Sampling() if given is None else Sampling(**{name: getattr(given, name) for name in given.__slots__})
    tools = [tool_to_wire(tool, index) for index, tool in enumerate(ask.tools)]
    return GenerationRequest(
        messages=tuple(
            Message(
                cast("Role", str(message.role)),  # checked above
                message.text,
                tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
                message.tool_call_id,
            )
            for message in ask.messages
        ),
        sampling=sampling,
        tools=tuple(Tool(tool.name, tool.description, tool.parameters_json_schema) for tool in tools),
    )
