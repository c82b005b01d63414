"""InferenceService: checks what comes in, waits for a place, and passes on what the engine says."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import TypeAlias

import grpc

from shieldmesh import validation
from shieldmesh.errors import USAGE_KEY
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc
from shieldmesh.window import Window

from .backend import Finish, FinishReason, Generation, Output, Usage
from .coalescing import coalesce
from .control import Control, opening
from .listing import described
from .observation import Observation
from .registry import Registry, ServedModel
from .translation import delta_event, finished_event, from_request, started_event, usage

Context: TypeAlias = "grpc.aio.ServicerContext[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """See `shieldmesh.v1.InferenceService`."""

    def __init__(self, models: Registry, *, max_characters: int) -> None:
        self._models = models
        self._max_characters = max_characters

    async def Generate(  # noqa: N802  # the contract's name
        self, request_iterator: AsyncIterator[inference_pb2.GenerateRequest], context: "Context"
    ) -> AsyncGenerator[inference_pb2.GenerateEvent, None]:
        """See `shieldmesh.v1.InferenceService.Generate`."""
        request = await opening(request_iterator)
        model = self._models.find(request.model)
        self._check(request)
        generation = model.backend.generate(from_request(request))
        window = Window(request.window) if request.HasField("window") else None
        async with Control(request_iterator, generation, window) as control, AsyncExitStack() as stack:
            admitted = stack.enter_async_context(model.admission.place())
            if model.admission.running < model.admission.max_running:
                queued: float | None = await admitted
            else:
                queued = await control.unless_stopped(admitted)
            if queued is None:
                yield finished_event(FinishReason.CANCELLED, Usage(), first_token=None, total=0.0)
                return
            yield started_event(model.name, queued, request)
            try:
                async with aclosing(_events(model, generation, queued, control)) as events:
                    async for event in events:
                        yield event
            except BaseException:
                context.set_trailing_metadata(((USAGE_KEY, usage(generation.usage).SerializeToString()),))
                raise

    async def ListModels(  # noqa: N802  # the contract's name
        self, request: inference_pb2.ListModelsRequest, context: object
    ) -> inference_pb2.ListModelsResponse:
        """See `shieldmesh.v1.InferenceService.ListModels`."""
        del request, context
        return inference_pb2.ListModelsResponse(models=map(described, self._models.models.values()))

    def _check(self, request: inference_pb2.GenerateOpen) -> None:
        validation.check_messages(request.messages, max_characters=self._max_characters)
        validation.check_sampling(request.sampling)
        validation.check_tools(request.tools)
        validation.check_response_format(request.response_format)


async def _events(
    model: ServedModel, generation: Generation, queued: float, control: Control
) -> AsyncGenerator[inference_pb2.GenerateEvent, None]:
    """The deltas of a running generation and its end. Whatever gathered while one was written makes up the next."""
    with Observation(model, generation, queued) as seen:
        async with aclosing(generation.batches()) as batches:
            async for batch in batches:
                outputs = [step for step in batch if isinstance(step, Output)]
                if outputs:
                    seen.tokens_came()
                for output in coalesce(outputs):
                    event = delta_event(output)
                    control.sent(event.delta)
                    yield event
                await control.room()
                if isinstance(batch[-1], Finish):
                    seen.ended(batch[-1].reason)
        if seen.reason is None:
            seen.ended(FinishReason.CANCELLED)
        reason = seen.reason or FinishReason.CANCELLED
        yield finished_event(reason, generation.usage, first_token=seen.first_token, total=seen.total)
