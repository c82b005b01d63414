"""The modules of one flow: each call in a task of its own, with a span, counted, and stopped with the flow."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, fields, replace

from google.protobuf.struct_pb2 import Struct
from opentelemetry import trace

from services.orchestrator.fallback import generate_by_first
from services.orchestrator.generation import Rpc
from services.orchestrator.mailbox import Mailbox, Measure
from services.orchestrator.waiting import until_done
from shieldmesh import telemetry
from shieldmesh.client import wire
from shieldmesh.client.conversation import Sampling
from shieldmesh.client.events import Delta, Event, Finished, Usage
from shieldmesh.errors import DeadlineExceededError, FailedPreconditionError
from shieldmesh.module.inference import GenerationTeller, opening
from shieldmesh.module.module import Module
from shieldmesh.module.target import Ask, Target
from shieldmesh.profile.policy import Limits
from shieldmesh.publishing import forward
from shieldmesh.telemetry import Name, SpanName
from shieldmesh.v1 import generation_pb2, inference_pb2
from shieldmesh.window import BYTES, TOKENS, window

from .limits import CallLimit


class SubCall:
    """One call of a module: what it says, on its way to the flow, and what it costs.

    Attributes:
        said: The events, closed after the last.
    """

    def __init__(self) -> None:
        self.said: Mailbox[Event] = Mailbox(_Apart(), BYTES, TOKENS)
        self._seen = 0
        self._cost = Usage()

    @property
    def usage(self) -> Usage:
        """The engines' account; of the one from which it has not come, the tokens that were seen."""
        return _sum((self._cost, Usage(completion_tokens=self._seen, total_tokens=self._seen)))

    def cost(self, usage: Usage) -> None:
        """Takes an engine's account, in the place of the tokens that were seen of it."""
        self._cost = _sum((self._cost, usage))
        self._seen = 0

    async def take(self, event: Event) -> None:
        """Takes an event, no faster than the flow reads."""
        if isinstance(event, Delta):
            self._seen += event.token_count
        self.said.put(event)
        await self.said.room()


Work = Callable[[Ask, SubCall], Awaitable[None]]
"""Gives what a module says to the call, and returns after the last event; cancelled, it ends the work first."""


def at_engine(rpc: Callable[[], Rpc], model: str, options: Struct | None = None, fallback: Sequence[str] = ()) -> Work:
    """A model of an inference service, or one that stands in for it; its engine is stopped with an exact account."""

    async def work(ask: Ask, call: SubCall) -> None:
        teller = GenerationTeller(model)

        async def take(message: inference_pb2.GenerateEvent) -> None:
            if message.HasField("finished"):
                call.cost(wire.usage(message.finished.usage))
                if message.finished.reason == generation_pb2.FINISH_REASON_UNSPECIFIED:
                    return  # the account of one that failed; its error comes by itself
            elif message.HasField("progress"):
                forward(message.progress)
            event = teller.tell(message)
            if event is not None:
                await call.take(event)

        request = opening(model, ask)
        request.window.CopyFrom(window())
        if options is not None:
            request.options.CopyFrom(options)
        await generate_by_first(rpc(), request, fallback, take=take, let_go=call.said.free, asked=_note_fallback)

    return work


def at_target(target: Target) -> Work:
    """Any other module, which is left at once when the call is cancelled."""

    async def work(ask: Ask, call: SubCall) -> None:
        async with aclosing(target.answer(ask)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    call.cost(event.usage)
                await call.take(event)

    return work


class FlowModules:
    """What a flow may call while it runs."""

    def __init__(self, limits: Limits) -> None:
        self.limit = CallLimit(limits.calls)
        self._limits = limits
        self._calls: list[SubCall] = []
        self._running: set[asyncio.Task[None]] = set()
        self._over = False

    def module(self, name: str, work: Work, sampling: Sampling | None = None) -> Module:
        """A module that the flow calls by this name; `sampling` holds where a call says nothing else."""
        return Module(_Bound(self, name, work, sampling or Sampling()))

    def account(self) -> generation_pb2.Usage:
        """What all calls have cost together."""
        return generation_pb2.Usage(**asdict(_sum([call.usage for call in self._calls])))

    async def call(self, name: str, work: Work, ask: Ask) -> AsyncGenerator[Event]:
        """One call; closing it ends the work."""
        if self._over:
            raise FailedPreconditionError("the turn that this module belongs to is over", reason="TURN_OVER")
        await self.limit.count()
        call = SubCall()
        self._calls.append(call)
        task = asyncio.create_task(_at_work(name, work, self._limited(ask), call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: call.said.close())
        try:
            async for event in call.said:
                yield event
            await task
        finally:
            await _end(task)

    async def close(self) -> None:
        """Ends all calls at once; nothing is generated any more then."""
        self._over = True
        running = list(self._running)
        for task in running:
            task.cancel()
        for task in running:
            await _end(task)

    def _limited(self, ask: Ask) -> Ask:
        limit = self._limits.output_tokens
        if limit is None:
            return ask
        sampling = ask.sampling or Sampling()
        return replace(ask, sampling=replace(sampling, max_tokens=min(sampling.max_tokens or limit, limit)))


class _Bound:
    """A module's target for one flow; see `shieldmesh.module.target.Target`."""

    def __init__(self, modules: FlowModules, name: str, work: Work, sampling: Sampling) -> None:
        self._modules = modules
        self._name = name
        self._work = work
        self._sampling = sampling

    def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """See `Target.answer`."""
        asked = {each.name: getattr(ask.sampling, each.name) for each in fields(Sampling)} if ask.sampling else {}
        said = {name: value for name, value in asked.items() if value is not None and value != ()}
        return self._modules.call(self._name, self._work, replace(ask, sampling=replace(self._sampling, **said)))


async def _at_work(name: str, work: Work, ask: Ask, call: SubCall) -> None:
    limit = asyncio.timeout(ask.timeout)
    with telemetry.span(f"{SpanName.MODULE} {name}") as span:
        try:
            async with limit:
                await work(ask, call)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceededError(f"the module {name} did not answer within {ask.timeout:g} s") from None
            raise
        finally:
            usage = call.usage
            span.set_attributes(
                {
                    Name.INPUT_TOKENS: usage.prompt_tokens,
                    Name.CACHED_TOKENS: usage.cached_tokens,
                    Name.OUTPUT_TOKENS: usage.completion_tokens,
                }
            )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await until_done(task)
    if not task.cancelled():
        task.exception()  # looked at, or asyncio would complain that nobody did


def _note_fallback(model: str, failed: Sequence[str]) -> None:
    """Says in the call's span which models failed before the one that is asked now."""
    del model
    if failed:
        trace.get_current_span().set_attribute(Name.FALLBACK_FROM, failed)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(**{each.name: sum(getattr(usage, each.name) for usage in usages) for each in fields(Usage)})


class _Apart:
    """Events that wait for a flow stay as they came; see `services.orchestrator.mailbox.Joining`."""

    def alike(self, first: Event, second: Event) -> bool:
        del first, second
        return False

    def join(self, items: Sequence[Event]) -> Event:
        raise NotImplementedError

    def measure(self, item: Event) -> Measure:
        return (len(item.text) + len(item.reasoning), item.token_count) if isinstance(item, Delta) else (0, 0)
