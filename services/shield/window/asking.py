"""One question to a model of the mesh, whose cost is known however the question ends."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

import grpc

from shieldmesh import calls, channels, context
from shieldmesh.errors import MeshError
from shieldmesh.metrics import instruments
from shieldmesh.telemetry import Name
from shieldmesh.v1 import generation_pb2, inference_pb2, inference_pb2_grpc

STOP_SECONDS: Final = 2.0
"""How long a model that was stopped may take to say what it cost."""
Call: TypeAlias = "grpc.aio.StreamStreamCall[inference_pb2.GenerateRequest, inference_pb2.GenerateEvent]"

_ending: Final[set[asyncio.Future[None]]] = set()
"""Stopped questions that are being accounted for; a loop keeps no hold of its tasks itself."""


class Answer(NamedTuple):
    """What a model answered."""

    text: str
    complete: bool
    """Whether the model ended by itself."""


async def ask(target: str, opening: inference_pb2.GenerateOpen, shield: str) -> Answer:
    """The answer of the inference service at `target`; its tokens are counted for `shield`.

    Cancelling this stops the model. That is over at once; the account follows in a task of its own.

    Raises:
        MeshError: the service failed.
    """
    question = _Question(target, opening, shield)
    asking = asyncio.create_task(question.ask())
    try:
        return await asyncio.shield(asking)
    finally:
        if not asking.done():
            _keep(asyncio.create_task(question.stop(asking)))


def _keep(task: "asyncio.Task[None]") -> None:
    _ending.add(task)
    task.add_done_callback(_ending.discard)


class _Question:
    """One generation at an inference service."""

    def __init__(self, target: str, opening: inference_pb2.GenerateOpen, shield: str) -> None:
        self._target = target
        self._opening = opening
        self._shield = shield
        self._call: Call | None = None
        self._opened = asyncio.Event()

    async def ask(self) -> Answer:
        """See `ask`."""
        stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(
            channels.get(self._target)
        )
        pieces: list[str] = []
        reason = generation_pb2.FINISH_REASON_UNSPECIFIED
        async with calls.bidi(stub.Generate) as call:
            self._call = call
            # An engine can be done before this write is: what it said is there to be read.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(inference_pb2.GenerateRequest(open=self._opening))
            self._opened.set()
            async for event in call:
                match event.WhichOneof("event"):
                    case "delta":
                        pieces.append(event.delta.text)
                    case "finished":
                        reason = event.finished.reason
                        self._count(event.finished.usage)
                    case _:
                        pass
        return Answer("".join(pieces), reason == generation_pb2.FINISH_REASON_STOP)

    async def stop(self, asking: Awaitable[Answer]) -> None:
        """Stops the model and hears what it cost; gives up soon."""
        with suppress(TimeoutError, MeshError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._opened.wait()
                if self._call is not None:
                    await self._call.write(inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop()))
                await asking

    def _count(self, usage: generation_pb2.Usage) -> None:
        ours, meters = context.current(), instruments()
        labels = meters.labels(
            {
                Name.OPERATION: "chat",
                Name.TENANT: ours.tenant_id or "none",
                Name.PROFILE: ours.profile,
                Name.MODEL: self._opening.model,
                Name.SHIELD: self._shield,
            }
        )
        for kind, tokens in (
            ("input", usage.prompt_tokens),
            ("cache_read", usage.cached_tokens),
            ("output", usage.completion_tokens),
        ):
            meters.tokens.record(tokens, {**labels, Name.TOKEN_TYPE: kind})
