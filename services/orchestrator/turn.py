"""One turn: input shields beside the model, the model's text through the output shields, what is cleared to the client.

```text
messages ──▶ Inspect ────────────────────────────────┐ gate: before the model; parallel: before the first text
    └──────▶ Generate ──▶ lanes ──▶ InspectStream ──▶ clearances ──▶ outbox ──▶ client
```
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shieldmesh import calls, context
from shieldmesh import profile as profiles
from shieldmesh.errors import DeadlineExceededError, InternalError
from shieldmesh.profile import Profile
from shieldmesh.profile.policy import ShieldSet
from shieldmesh.telemetry import trace_id
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, policy_pb2, shield_pb2

from .account import Account
from .lanes import Lanes
from .outbox import Outbox
from .prompt import Prompt

if TYPE_CHECKING:
    from shieldmesh.v1.inference_pb2_grpc import InferenceServiceAsyncStub
    from shieldmesh.v1.shield_pb2_grpc import ShieldServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Services:
    """The services a turn calls, and how far it may run ahead of its reader."""

    shields: "ShieldServiceAsyncStub"
    models: "InferenceServiceAsyncStub"
    window: int
    """Characters of released text that may wait for the client before the model's stream is read no further."""


class Blocked(Exception):  # noqa: N818  # no error: a shield ends the turn
    """A verdict ends the turn."""


class Turn:
    """Runs one turn; `events` yields what the client sees."""

    def __init__(self, profile: Profile, prompt: Prompt, services: Services) -> None:
        self._profile = profile
        self._policy = profile.policy
        self._prompt = prompt
        self._services = services
        self._outbox = Outbox(services.window)
        self._lanes = Lanes()
        self._account = Account(profile)
        self._input_cleared = asyncio.Event()

    async def events(self) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """The turn's events, from `started` to `finished`, numbered.

        Raises:
            MeshError: a service that the turn needs failed, or its time is over.
        """
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._run())
            work.add_done_callback(lambda _: self._outbox.close())
            async for event in self._outbox:
                yield event

    async def _run(self) -> None:
        ours = replace(context.current(), profile=self._profile.name)
        with context.use(ours):
            self._outbox.put(chat_pb2.ChatEvent(started=self._started()))
            try:
                async with self._within_limit(), asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._check_input())
                    tasks.create_task(self._answer())
            except* Blocked:
                self._account.blocked()
            self._outbox.put(chat_pb2.ChatEvent(finished=self._account.finished(self._lanes.all())))

    def _started(self) -> chat_pb2.TurnStarted:
        ours = context.current()
        return chat_pb2.TurnStarted(
            turn_id=ours.request_id,
            session_id=ours.session_id,
            profile=self._profile.name,
            profile_version=self._profile.version,
            model=self._policy.model,
            trace_id=trace_id(),
        )

    @asynccontextmanager
    async def _within_limit(self) -> AsyncGenerator[None]:
        limit = self._policy.limits.duration
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                yield
        except TimeoutError as error:
            if timeout.expired():
                message = f"the turn took longer than the {limit:g} s its profile allows"
                raise DeadlineExceededError(message, reason="TURN_TOO_LONG") from error
            raise

    # The way in

    async def _check_input(self) -> None:
        if self._policy.input.shields:
            request = shield_pb2.InspectRequest(
                shields=_specs(self._policy.input.shields),
                direction=policy_pb2.DIRECTION_INPUT,
                texts=self._prompt.texts(),
            )
            answer = await calls.unary(self._services.shields.Inspect, request)
            self._account.input_cleared()
            self._judge(answer.verdicts)
            self._prompt.apply(answer.edits)
        self._input_cleared.set()

    # The way out

    async def _answer(self) -> None:
        if self._policy.input.mode == "gate":
            await self._input_cleared.wait()
        async with calls.stream(self._services.models.Generate, self._prompt.request()) as generation:
            if self._policy.output.shields:
                await self._guarded(generation)
            else:
                await self._unguarded(generation)

    async def _unguarded(self, generation: AsyncIterable[inference_pb2.GenerateEvent]) -> None:
        async for delta in self._deltas(generation):
            await self._input_cleared.wait()
            text = self._lanes.add(delta, time.monotonic())
            self._send(self._lanes.clear_all(text.lane, time.monotonic()))

    async def _guarded(self, generation: AsyncIterable[inference_pb2.GenerateEvent]) -> None:
        async with calls.bidi(self._services.shields.InspectStream) as guard, asyncio.TaskGroup() as tasks:
            opening = shield_pb2.InspectOpen(
                shields=_specs(self._policy.output.shields), direction=policy_pb2.DIRECTION_OUTPUT
            )
            await guard.write(shield_pb2.InspectStreamRequest(open=opening))
            tasks.create_task(self._release(guard))
            async for delta in self._deltas(generation):
                await guard.write(shield_pb2.InspectStreamRequest(text=self._lanes.add(delta, time.monotonic())))
            for ending in self._lanes.endings():
                await guard.write(shield_pb2.InspectStreamRequest(text=ending))
            await guard.done_writing()

    async def _deltas(
        self, generation: AsyncIterable[inference_pb2.GenerateEvent]
    ) -> AsyncGenerator[generation_pb2.Delta]:
        """The model's output, read no faster than the client takes it."""
        async for event in generation:
            match event.WhichOneof("event"):
                case "delta":
                    self._account.generated(event.delta.token_count)
                    yield event.delta
                case "started":
                    self._account.admitted()
                case "finished":
                    self._account.engine_finished(event.finished)
                case _:
                    pass  # a newer service tells of something that this one does not know
            await self._outbox.room()

    async def _release(self, guard: AsyncIterable[shield_pb2.InspectStreamResponse]) -> None:
        await self._input_cleared.wait()
        async for answer in guard:
            if answer.WhichOneof("response") == "clearance":
                self._send(self._lanes.clear(answer.clearance, time.monotonic()))
                self._judge(answer.clearance.verdicts)
        if self._lanes.held():
            raise InternalError("the shield service ended before it had cleared all text", reason="SHIELD_BROKEN")

    def _send(self, delta: generation_pb2.Delta | None) -> None:
        if delta is not None:
            self._account.released()
            self._outbox.put(chat_pb2.ChatEvent(delta=delta))

    def _judge(self, verdicts: Iterable[policy_pb2.Verdict]) -> None:
        """Tells the client what the shields saw; a block ends the turn."""
        blocked = False
        for verdict in verdicts:
            self._outbox.put(chat_pb2.ChatEvent(verdict=verdict))
            blocked = blocked or verdict.action == policy_pb2.ACTION_BLOCK
        if blocked:
            raise Blocked


def _specs(shields: ShieldSet) -> list[policy_pb2.ShieldSpec]:
    return [profiles.shield_spec(shield) for shield in shields]
