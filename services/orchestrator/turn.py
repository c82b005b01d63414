"""One turn: input shields beside the model, the model's text through the output shields, what is cleared to the client.

```text
messages ──▶ Inspect ────────────────────────────────┐ gate: before the model; parallel: before the first text
    └──────▶ Generate ──▶ lanes ──▶ InspectStream ──▶ clearances ──▶ outbox ──▶ client
```
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import TypeAlias

import grpc
from opentelemetry import trace

from shieldmesh import calls, context
from shieldmesh.context import RequestContext, new_id
from shieldmesh.errors import DeadlineExceededError, InternalError, duration, seconds
from shieldmesh.flag import Flag
from shieldmesh.profile import Profile
from shieldmesh.profile.policy import Disconnect
from shieldmesh.publishing import forward, published_to
from shieldmesh.telemetry import Name, SpanName, trace_id, tracer
from shieldmesh.v1 import chat_pb2, generation_pb2, inference_pb2, policy_pb2, progress_pb2, shield_pb2
from shieldmesh.window import window

from .account import Account
from .disconnect import to_wire
from .flows.flow import run_flow
from .lanes import Lanes
from .mailbox import Mailbox
from .merging import EVENTS, TEXTS
from .prompt import Prompt
from .report import reported
from .services import Services
from .sessions.memory import Memory
from .sessions.store import SessionStore
from .shadow import Shadow

Guard: TypeAlias = "grpc.aio.StreamStreamCall[shield_pb2.InspectStreamRequest, shield_pb2.InspectStreamResponse]"


class Blocked(Exception):  # noqa: N818  # no error: a shield ends the turn
    """A verdict ends the turn."""


class Stopped(Exception):  # noqa: N818  # no error: somebody ends the turn
    """Somebody other than the turn's reader ends it."""


class Turn:
    """One turn, for the tenant and the session of the current call.

    Attributes:
        identity: Whose it is, and by when it must have ended.
        patience: Seconds that it goes on when nobody reads it; None: to its end.
        stall: What becomes of it when its caller reads nothing.
        outbox: What the client is to see, from `started` to `finished`, to be numbered by its reader.
    """

    def __init__(
        self,
        profile: Profile,
        prompt: Prompt,
        services: Services,
        *,
        candidate: Profile | None = None,
        disconnect: Disconnect = "cancel",
        sessions: SessionStore | None = None,
    ) -> None:
        """`candidate` runs beside the profile without acting; with `sessions` the session's history is kept there."""
        self.identity = _identity(profile, disconnect)
        self.patience = profile.policy.reconnect_grace if disconnect == "cancel" else None
        self.stall = profile.policy.stall
        self.outbox = Mailbox(EVENTS, services.window, services.ahead, corked=True)
        self._profile = profile
        self._policy = profile.policy
        self._prompt = prompt
        self._services = services
        self._unseen = Mailbox(TEXTS, services.window)
        self._lanes = Lanes()
        self._account = Account(profile)
        self._memory = None if sessions is None else Memory(sessions, self.identity, profile)
        self._shadow = None
        if candidate is not None:
            shields, shadows = services.shields, services.shadows
            self._shadow = Shadow(profile, candidate, shields, shadows=shadows, window=services.window)
        self._input_cleared = Flag()
        self._model_asked = Flag()
        self._all_shown = False
        self._at_once = self._policy.output.mode == "observe"
        self._disconnect: Disconnect = disconnect
        self._key = secrets.token_bytes(16) if self._policy.wants_pseudonyms else b""
        self._stopped = False
        self._limit: asyncio.Timeout | None = None
        self._opening = chat_pb2.ChatEvent()

    def take(self) -> Awaitable[chat_pb2.ChatEvent | None]:
        """The next event for the client; None after the last. A cancelled wait loses nothing.

        Where other models may stand in, `started` waits until it is known which one answers.
        """
        return self.outbox.take()

    def close(self) -> None:
        """Ends what `take` gives after what waits."""
        self.outbox.close()

    async def run(self) -> None:
        """Runs the turn; all is in the outbox then.

        Raises:
            MeshError: a service that the turn needs failed, or its time is over.
        """
        with (
            context.use(self.identity),
            self._span(),
            reported(self._profile, self._account, self._lanes),
            nullcontext() if self._shadow is None else self._shadow.beside(),
        ):
            self._opening.started.CopyFrom(self._started())
            self.outbox.put(self._opening)
            try:
                with published_to(self._publish):
                    await self._work()
            except* Blocked:
                self._account.blocked()
            except* Stopped:
                self._account.stopped()
            finished = self._account.summary = self._account.finished(self._lanes)
            if self._memory is not None:
                # Before the client hears of the end, and goes on with what is kept.
                await self._memory.keep(self._prompt.new(), finished)
            self.outbox.put(chat_pb2.ChatEvent(finished=finished))

    def stop(self) -> None:
        """Ends the turn with what was released so far; one that has ended stays as it is."""
        self._stopped = True
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())

    def _span(self) -> AbstractContextManager[object]:
        """A span for turns that can outlive the span of the call that began them."""
        return nullcontext() if self.patience == 0 else tracer().start_as_current_span(SpanName.TURN)

    def _started(self) -> chat_pb2.TurnStarted:
        ours = self.identity
        return chat_pb2.TurnStarted(
            turn_id=ours.request_id,
            session_id=ours.session_id,
            profile=self._profile.name,
            profile_version=self._profile.version,
            model=self._policy.model,
            trace_id=trace_id(),
            disconnect=to_wire(self._disconnect),
            reconnect_grace=duration(self.patience or 0),
        )

    def _asked(self, model: str, failed: Sequence[str]) -> None:
        """A model is asked, after others that failed."""
        self._account.model = model
        if failed:
            self._opening.started.model = model
            self._opening.started.fallback_from[:] = failed
            trace.get_current_span().set_attribute(Name.FALLBACK_FROM, failed)
        self._model_asked.set()
        self._begin()

    def _begin(self) -> None:
        """Lets the client hear that the turn began, unless it is open yet which model answers.

        What is about to go to the model comes first, and whatever may take long comes behind.
        """
        if not self._policy.fallback:
            self.outbox.uncork()

    async def _work(self) -> None:
        """What may take as long as the profile allows, and can be stopped."""
        limit = self._policy.limits.duration
        timeout = self._limit = asyncio.timeout(0 if self._stopped else limit)
        try:
            async with timeout:
                await self._recall()
                async with asyncio.TaskGroup() as tasks:
                    await self._answer(tasks)
        except TimeoutError as error:
            if timeout.expired() and self._stopped:
                raise Stopped from None
            if timeout.expired():
                message = f"the turn took longer than the {limit:g} s its profile allows"
                raise DeadlineExceededError(message, reason="TURN_TOO_LONG") from error
            raise
        finally:
            self._limit = None

    # The way in

    async def _recall(self) -> None:
        if self._memory is not None:
            self._begin()
            self._prompt.remember(await self._memory.recall(self._prompt.new(), self._prompt.room()))

    async def _check_input(self) -> None:
        if self._policy.input.mode == "gate":
            self._begin()
        else:
            await asyncio.sleep(0)  # the call of the model, in whose time this is done, goes out first
        if self._shadow is not None:
            self._shadow.ask(self._prompt.texts)
        if self._policy.input.shields:
            request = shield_pb2.InspectRequest(
                shields=self._profile.wording.input_shields,
                direction=policy_pb2.DIRECTION_INPUT,
                texts=self._prompt.texts(),
                pseudonym_key=self._key,
            )
            answer = await calls.unary(self._services.shields.Inspect, request)
            self._account.input_cleared()
            for result in answer.progress:
                forward(result)
            self._judge(answer.verdicts)
            self._prompt.apply(answer.edits)
        self._begin()
        self._input_cleared.set()

    # The way out

    async def _answer(self, tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(self._check_input())
        if self._policy.input.mode == "gate":
            await self._input_cleared.wait()
        tasks.create_task(self._guard(tasks) if self._policy.output.shields else self._pass_on())
        await self._generate()

    async def _generate(self) -> None:
        opening = self._prompt.opening()
        opening.window.CopyFrom(window(self._services.ahead, self._services.window))
        await run_flow(
            self._services.flows,
            self._policy,
            opening,
            rpc=self._services.models.Generate,
            take=self._take,
            let_go=self._let_go,
            asked=self._asked,
        )
        for ending in self._lanes.endings():
            self._write(ending)
        self._unseen.close()

    async def _take(self, event: inference_pb2.GenerateEvent) -> None:
        """One event of the model, taken no faster than shields and client follow."""
        match event.WhichOneof("event"):
            case "delta":
                if self.outbox.corked:
                    self.outbox.uncork()
                delta, now = event.delta, time.monotonic()
                self._account.generated(delta.token_count)
                text = self._lanes.add(delta, now)
                self._write(text)
                if self._at_once and self._input_cleared.is_set:
                    self._send(self._lanes.clear_all(text.lane, now))
            case "started":
                self._account.admitted(seconds(event.started.queued))
            case "finished":
                self._account.engine_finished(event.finished)
            case "progress":
                forward(event.progress)
            case _:
                pass  # a newer service tells of something that this one does not know
        if self._unseen.full:
            await self._unseen.room()
        if self.outbox.full:
            self.outbox.uncork()  # interim results wait for a reader, who must not wait for what comes behind them
            await self.outbox.room()

    def _write(self, text: shield_pb2.InspectText) -> None:
        if self._shadow is not None:
            self._shadow.see(text)
        self._unseen.put(text)

    def _let_go(self) -> None:
        self._at_once = False
        self._unseen.free()
        self.outbox.free()

    async def _pass_on(self) -> None:
        """Lets the text of a profile without output shields go as it comes."""
        await self._input_cleared.wait()
        async for text in self._unseen:
            self._send(self._lanes.clear_all(text.lane, time.monotonic()))

    async def _guard(self, tasks: asyncio.TaskGroup) -> None:
        """Has the output shields look at what the model writes."""
        await self._model_asked.wait()  # which comes first, and says nothing before
        async with calls.bidi(self._services.shields.InspectStream) as guard:
            tasks.create_task(self._show(guard))
            await (self._observe(guard) if self._at_once else self._release(guard))

    async def _show(self, guard: "Guard") -> None:
        """Shows the shields what the model writes, all that gathered since the last time in one message."""
        opening = shield_pb2.InspectOpen(
            shields=self._profile.wording.output_shields,
            direction=policy_pb2.DIRECTION_OUTPUT,
            pseudonym_key=self._key,
            latency_budget=self._profile.wording.latency_budget,
        )
        # A call that has ended takes nothing more. Why it ended is heard where it is read: a verdict may wait there.
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await guard.write(shield_pb2.InspectStreamRequest(open=opening))
            while (text := await self._unseen.take()) is not None:
                await guard.write(shield_pb2.InspectStreamRequest(text=text))
            self._all_shown = True
            await guard.done_writing()

    async def _release(self, guard: "Guard") -> None:
        await self._input_cleared.wait()
        async for answer in guard:
            if answer.HasField("clearance"):
                clearance = answer.clearance
                self._send(self._lanes.clear(clearance, time.monotonic()))
                if clearance.verdicts:
                    self._judge(clearance.verdicts)
            elif answer.HasField("progress"):
                forward(answer.progress)
        if self._lanes.held() or not self._all_shown:
            raise InternalError("the shield service ended before it had cleared all text", reason="SHIELD_BROKEN")

    async def _observe(self, guard: "Guard") -> None:
        """Tells what the shields see of text that leaves at once: see `_take`."""
        await self._input_cleared.wait()
        for number in range(len(self._lanes)):
            self._send(self._lanes.clear_all(number, time.monotonic()))
        async for answer in guard:
            if answer.HasField("clearance"):
                self._lanes.note_judged(answer.clearance)
                self._judge(answer.clearance.verdicts)
            elif answer.HasField("progress"):
                forward(answer.progress)
        if self._lanes.unjudged() or not self._all_shown:
            raise InternalError("the shield service ended before it had seen all text", reason="SHIELD_BROKEN")
        self._account.all_seen()

    def _send(self, delta: generation_pb2.Delta | None) -> None:
        if delta is not None:
            self._account.released()
            if self._memory is not None:
                self._memory.answer.add(delta)
            self.outbox.put(chat_pb2.ChatEvent(delta=delta))

    def _publish(self, result: progress_pb2.Progress) -> bool:
        """Takes an interim result that a service published; it never makes the turn wait."""
        if self.outbox.full:
            return False
        self.outbox.put(chat_pb2.ChatEvent(progress=result))
        return True

    def _judge(self, verdicts: Iterable[policy_pb2.Verdict]) -> None:
        """Tells the client what the shields saw; a block ends the turn."""
        blocked = False
        for verdict in verdicts:
            if self._shadow is not None:
                self._shadow.note(verdict)
            self._account.judged(verdict)
            self.outbox.put(chat_pb2.ChatEvent(verdict=verdict))
            blocked = blocked or verdict.action == policy_pb2.ACTION_BLOCK
        if blocked:
            self.outbox.uncork()
            self._at_once = False
            raise Blocked


def _identity(profile: Profile, disconnect: Disconnect) -> RequestContext:
    """The current call's, for work of this profile."""
    ours = context.current()
    if disconnect == "detach":
        # The caller's deadline is the call's; the turn has the time that its profile gives it.
        ours = replace(ours, deadline=time.monotonic() + profile.policy.limits.duration)
    return replace(ours, request_id=ours.request_id or new_id(), profile=profile.name, profile_version=profile.version)
