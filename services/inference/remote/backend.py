"""Generating with a model of other InferenceServices: one call of Generate for each attempt."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Final, TypeAlias

import grpc

from services.inference.backend import Finish, Generation, GenerationRequest, Step, Usage
from services.inference.pool.backend import PooledBackend, Rules
from services.inference.pool.options import Retries
from shieldmesh import calls, channels, context, publishing
from shieldmesh.ending import GenerationEnding
from shieldmesh.errors import MeshError, ResourceExhaustedError, UnavailableError
from shieldmesh.v1 import generation_pb2, inference_pb2, inference_pb2_grpc
from shieldmesh.window import Window

from .options import RemoteOptions
from .ring import RingGuard
from .translation import REASONS, from_delta, from_usage, to_opening

Call: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"

_STOP: Final = inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop())


class RemoteBackend(PooledBackend[inference_pb2.GenerateOpen]):
    """One model at one service or several; see `services.inference.backend.Backend`."""

    def __init__(self, name: str, options: RemoteOptions) -> None:
        """Reads the authorities to trust; `name` is what the mesh calls the model.

        Raises:
            OSError: their file cannot be read.
        """
        self.context_window = options.context_window
        self._model = options.model
        self._guard = RingGuard()
        credentials: grpc.ChannelCredentials | None = None
        if options.encrypted:
            authorities = None if options.ca is None else options.ca.read_bytes()
            credentials = grpc.ssl_channel_credentials(authorities)
        # Alone, a service that restarts is waited for by its channel; beside others, these are asked instead.
        alone = len(options.targets) == 1
        rules = Rules(
            retries=Retries(attempts=min(len(options.targets), 10)),
            circuit=options.circuit,
            passing=_passing,
            blamed=_blamed,
        )
        endpoints = [RemoteEndpoint(target, credentials, self._guard, retrying=alone) for target in options.targets]
        super().__init__(name, endpoints, rules)

    def generate(self, request: GenerationRequest) -> Generation:
        """See `Backend.generate`.

        Raises:
            FailedPreconditionError: the request has been here; MODEL_RING.
        """
        self._guard.check()
        return self.ask(to_opening(self._model, request))


class RemoteEndpoint:
    """One service; see `services.inference.pool.members.Endpoint`."""

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None, guard: RingGuard, *, retrying: bool
    ) -> None:
        self.generated_tokens = 0
        self.guard = guard
        self._target = target
        self._credentials = credentials
        self._retrying = retrying

    @property
    def name(self) -> str:
        """See `Endpoint.name`."""
        return self._target

    @property
    def stub(self) -> "inference_pb2_grpc.InferenceServiceAsyncStub":
        """The service, over the running loop's channel."""
        channel = channels.get(self._target, self._credentials, retrying=self._retrying)
        return inference_pb2_grpc.InferenceServiceStub(channel)

    def attempt(self, question: inference_pb2.GenerateOpen, within: float | None) -> "RemoteGeneration":
        """See `Endpoint.attempt`; the service keeps to the deadline of the call, which is all the limit there is."""
        del within
        return RemoteGeneration(self, question)


class RemoteGeneration:
    """One attempt; see `services.inference.backend.Generation`."""

    def __init__(self, endpoint: RemoteEndpoint, opening: inference_pb2.GenerateOpen) -> None:
        self.usage = Usage()
        self._endpoint = endpoint
        self._opening = opening
        self._window: Window | None = None
        self._stopped = False
        self._news = asyncio.Event()
        """Set when there is something to say."""
        self._ending = GenerationEnding()

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        async with AsyncExitStack() as stack:
            with context.use(self._endpoint.guard.marked()):
                call = await stack.enter_async_context(calls.bidi(self._endpoint.stub.Generate))
            call.add_done_callback(self._ending.note)
            talking = asyncio.create_task(self._talk(call))
            try:
                async for event in call:
                    if event.HasField("finished"):
                        self.usage = from_usage(event.finished.usage)
                        if event.finished.reason in REASONS:
                            yield [Finish(REASONS[event.finished.reason])]
                        return
                    if event.HasField("progress"):
                        publishing.forward(event.progress)
                    elif event.HasField("delta"):
                        self._count(event.delta.token_count)
                        yield [from_delta(event.delta)]
                        self._took(event.delta)
                    elif event.HasField("started") and event.started.HasField("window"):
                        self._window = Window(event.started.window)
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
        self._stopped = True
        self._news.set()

    def _took(self, delta: generation_pb2.Delta) -> None:
        """A delta has been taken from here."""
        if self._window is not None:
            self._window.add(delta)
            if self._window.half_used:
                self._news.set()

    async def _talk(self, call: "Call") -> None:
        """Says what there is to say: what is asked, how much of it was taken and, perhaps, that it is enough."""
        # The service can have ended the call already: what it said is there to be read.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(inference_pb2.GenerateRequest(open=self._opening))
            while not self._stopped:
                await self._news.wait()
                self._news.clear()
                if self._window is not None and not self._stopped:
                    await call.write(inference_pb2.GenerateRequest(credit=self._window.credit()))
            await call.write(_STOP)

    def _count(self, tokens: int) -> None:
        self.usage = replace(self.usage, completion=self.usage.completion + tokens)
        self._endpoint.generated_tokens += tokens


def _passing(error: MeshError) -> bool:
    return isinstance(error, UnavailableError | ResourceExhaustedError)


def _blamed(error: MeshError) -> bool:
    return isinstance(error, UnavailableError)
