"""A model of an InferenceService."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import grpc

from shieldmesh import calls, channels
from shieldmesh.client import wire
from shieldmesh.client.conversation import message_to_wire, sampling_to_wire, tool_to_wire
from shieldmesh.client.events import Event
from shieldmesh.errors import UnavailableError
from shieldmesh.module.story import Story
from shieldmesh.module.target import Ask
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc
from shieldmesh.window import Window, window


class InferenceTarget:
    """One model of one service; see `shieldmesh.module.target.Target`.

    Attributes:
        target: The service, as `shieldmesh.channels` takes it.
        model: What it calls the model.
    """

    def __init__(self, target: str, model: str) -> None:
        self.target = target
        self.model = model

    async def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """See `Target.answer`. Closing it cancels the call: the engine stops."""
        request = opening(self.model, ask)
        request.window.CopyFrom(window())
        ahead: Window | None = None
        teller = GenerationTeller(self.model)
        stub = inference_pb2_grpc.InferenceServiceStub(channels.get(self.target))
        async with calls.bidi(stub.Generate, timeout=ask.timeout) as call:
            # The service can have ended the call already: what it said is there to be read.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(inference_pb2.GenerateRequest(open=request))
            async for message in call:
                event = teller.tell(message)
                if event is not None:
                    yield event
                if teller.finished:
                    return
                if message.HasField("started") and message.started.HasField("window"):
                    ahead = Window(message.started.window)
                elif ahead is not None and message.HasField("delta"):
                    # The reader came back for more: it has taken this one.
                    ahead.add(message.delta)
                    if ahead.half_used:
                        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                            await call.write(inference_pb2.GenerateRequest(credit=ahead.credit()))
        raise UnavailableError("the model's service ended its answer before it was whole", reason="UPSTREAM_TRUNCATED")


def opening(model: str, ask: Ask) -> inference_pb2.GenerateOpen:
    """What a model is asked, in the contract's words.

    Raises:
        InvalidArgumentError: a value cannot be said; `field` names it.
    """
    return inference_pb2.GenerateOpen(
        model=model,
        messages=[message_to_wire(message, index) for index, message in enumerate(ask.messages)],
        sampling=sampling_to_wire(ask.sampling),
        tools=[tool_to_wire(tool, index) for index, tool in enumerate(ask.tools)],
    )


class GenerationTeller:
    """Tells a generation as the events of an answer.

    Attributes:
        finished: Whether its last event has come.
    """

    def __init__(self, model: str) -> None:
        self.finished = False
        self._story = Story(model)

    def tell(self, message: inference_pb2.GenerateEvent) -> Event | None:
        """The event that `message` stands for; None for one that this version does not know."""
        match message.WhichOneof("event"):
            case "started":
                return self._story.started()
            case "delta":
                delta = wire.delta(0, message.delta)
                return self._story.delta(
                    delta.text,
                    reasoning=delta.reasoning,
                    tool_call=delta.tool_call,
                    choice=delta.choice,
                    tokens=delta.token_count,
                )
            case "finished":
                self.finished = True
                return self._story.finished(wire.reason(message.finished.reason), wire.usage(message.finished.usage))
            case _:
                return None
