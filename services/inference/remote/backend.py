"""Generating with a model of another InferenceService: one call of Generate for each generation."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

import grpc

from services.inference.backend import Finish, GenerationRequest, Step, Usage
from shieldmesh import calls, channels
from shieldmesh.ending import GenerationEnding
from shieldmesh.errors import UnavailableError
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc

from .options import RemoteOptions
from .translation import REASONS, from_delta, from_usage, to_opening

Call: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"

_STOP: Final = inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop())


class RemoteBackend:
    """One model of one service; see `services.inference.backend.Backend`."""

    def __init__(self, options: RemoteOptions) -> None:
        """Reads the authorities to trust.

        Raises:
            OSError: their file cannot be read.
        """
        self.context_window = options.context_window
        self.generated_tokens = 0
        self._options = options
        self._credentials: grpc.ChannelCredentials | None = None
        if options.encrypted:
            authorities = None if options.ca is None else options.ca.read_bytes()
            self._credentials = grpc.ssl_channel_credentials(authorities)

    @property
    def stub(self) -> "inference_pb2_grpc.InferenceServiceAsyncStub":
        """The service, over the running loop's channel."""
        return inference_pb2_grpc.InferenceServiceStub(channels.get(self._options.target, self._credentials))

    def generate(self, request: GenerationRequest) -> "RemoteGeneration":
        """See `Backend.generate`."""
        return RemoteGeneration(self, to_opening(self._options.model, request))

    async def close(self) -> None:
        """See `Backend.close`; the channel belongs to the loop."""


class RemoteGeneration:
    """One generation; see `services.inference.backend.Generation`."""

    def __init__(self, backend: RemoteBackend, opening: inference_pb2.GenerateOpen) -> None:
        self.usage = Usage()
        self._backend = backend
        self._opening = opening
        self._stopped = asyncio.Event()
        self._ending = GenerationEnding()

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        async with calls.bidi(self._backend.stub.Generate) as call:
            call.add_done_callback(self._ending.note)
            talking = asyncio.create_task(self._talk(call))
            try:
                async for event in call:
                    if event.HasField("finished"):
                        self.usage = from_usage(event.finished.usage)
                        if event.finished.reason in REASONS:
                            yield [Finish(REASONS[event.finished.reason])]
                        return
                    if event.HasField("delta"):
                        self._count(event.delta.token_count)
                        yield [from_delta(event.delta)]
            except grpc.aio.AioRpcError:
                await self._ending.heard(call)
                if self._ending.usage is not None:
                    self.usage = from_usage(self._ending.usage)
                raise
            finally:
                talking.cancel()
                await asyncio.wait([talking])
        raise UnavailableError("the model's service ended its answer before it was whole", reason="UPSTREAM_TRUNCATED")

    def stop(self) -> None:
        """See `Generation.stop`: the other service ends its generation, and tells what that cost."""
        self._stopped.set()

    async def _talk(self, call: "Call") -> None:
        """Says what there is to say: what is asked and, perhaps, that it is enough."""
        # The service can have ended the call already: what it said is there to be read.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(inference_pb2.GenerateRequest(open=self._opening))
            await self._stopped.wait()
            await call.write(_STOP)

    def _count(self, tokens: int) -> None:
        self.usage = replace(self.usage, completion=self.usage.completion + tokens)
        self._backend.generated_tokens += tokens
