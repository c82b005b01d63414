"""A flow in the place of the model: what it yields is what the model would have written."""

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, cast

import structlog
from opentelemetry import trace

from services.orchestrator.fallback import generate_by_first
from services.orchestrator.generation import STOP_SECONDS, Rpc, Take
from services.orchestrator.waiting import until_done
from shieldmesh import channels, telemetry
from shieldmesh.client.conversation import message_from_wire, sampling_from_wire, tool_from_wire
from shieldmesh.client.events import Delta, Event, Finished, FinishReason, Progress, Reconnected, Started, Verdict
from shieldmesh.errors import Hop, InternalError, MeshError
from shieldmesh.flow import FlowTurn
from shieldmesh.module.inference import InferenceTarget
from shieldmesh.profile.policy import FlowPolicy, Policy
from shieldmesh.telemetry import Name, SpanName
from shieldmesh.v1 import generation_pb2, inference_pb2
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub

from .catalogue import Catalogue, NamedFlow
from .limits import CallLimit
from .modules import FlowModules, Work, at_engine, at_target

_REASONS: Final = {
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: generation_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: generation_pb2.FINISH_REASON_CONTENT_FILTER,
}
"""How an answer can end beside STOP, when a flow passes a module's end on."""

_log = structlog.stdlib.get_logger("shieldmesh.flow")


async def run_flow(
    catalogue: Catalogue,
    policy: Policy,
    opening: inference_pb2.GenerateOpen,
    *,
    rpc: Rpc,
    take: Take,
    let_go: Callable[[], None],
    asked: Callable[[str, Sequence[str]], None],
) -> None:
    """Runs the flow that a policy names; where it names none, `generate_by_first`, whose other arguments it has.

    The account that `take` gets at the end is the sum over all calls of modules, however the flow ends.

    Raises:
        MeshError: the flow or a module that it called failed, or it went beyond its limits.
    """
    if policy.flow is None:
        await generate_by_first(rpc, opening, policy.fallback, take=take, let_go=let_go, asked=asked)
        return
    flow = catalogue.flow(policy.flow)
    modules = FlowModules(policy.limits)
    works = {name: _work(catalogue, where, rpc) for name, where in policy.flow.modules.items()}
    works[""] = at_engine(lambda: rpc, opening.model, opening.options, policy.fallback)
    turn = _turn(opening, policy.flow, modules, works)
    reason = generation_pb2.FINISH_REASON_UNSPECIFIED
    with telemetry.span(f"{SpanName.FLOW} {flow.name}") as span:
        begun = time.monotonic()
        asked(opening.model, ())
        await take(inference_pb2.GenerateEvent(started=inference_pb2.GenerateStarted(model=opening.model)))
        # In a task of its own: whatever a flow does about its own cancellations, those of the turn are told apart.
        work = asyncio.create_task(_follow(flow, turn, take))
        modules.limit.end = work.cancel
        try:
            await asyncio.wait([work])
            reason = _outcome(flow, work, modules.limit, begun)
        finally:
            if reason == generation_pb2.FINISH_REASON_UNSPECIFIED:
                let_go()
            try:
                await until_done(asyncio.create_task(_end(flow, work, modules)))
            finally:
                account = modules.account()
                used = {Name.INPUT_TOKENS: account.prompt_tokens, Name.OUTPUT_TOKENS: account.completion_tokens}
                span.set_attributes(used)
                finished = inference_pb2.GenerateFinished(reason=reason, usage=account)
                await take(inference_pb2.GenerateEvent(finished=finished))


async def _follow(flow: NamedFlow, turn: FlowTurn, take: Take) -> generation_pb2.FinishReason.ValueType:
    """Passes on what the flow yields; why its answer ends."""
    reason = generation_pb2.FINISH_REASON_STOP
    async with aclosing(flow.run(turn)) as said:
        async for step in said:
            if isinstance(step, Finished):
                reason = _REASONS.get(step.reason, generation_pb2.FINISH_REASON_STOP)
            elif (delta := _delta(flow, step)) is not None:
                await take(inference_pb2.GenerateEvent(delta=delta))
            else:
                await asyncio.sleep(0)  # a flow that only says nothing must not hold up everybody else
    return reason


def _outcome(
    flow: NamedFlow, work: "asyncio.Task[generation_pb2.FinishReason.ValueType]", limit: CallLimit, begun: float
) -> generation_pb2.FinishReason.ValueType:
    """Why the answer of a flow that is over ends.

    Raises:
        MeshError: it failed.
    """
    cause = asyncio.CancelledError() if work.cancelled() else work.exception()
    if cause is None and not limit.exceeded:
        return work.result()
    error = limit.error() if cause is None or limit.exceeded else _failure(flow, cause)
    span = telemetry.span_id(trace.get_current_span())
    error.seen_by(Hop("flow", flow.name, span_id=span, elapsed=time.monotonic() - begun, reason=error.reason))
    raise error from cause


async def _end(flow: NamedFlow, work: "asyncio.Task[object]", modules: FlowModules) -> None:
    """Ends a flow and all that it called; a flow that will not end is left, and can do nothing more."""
    work.cancel()
    await modules.close()
    await asyncio.wait([work], timeout=STOP_SECONDS)
    if not work.done():
        _log.error("a flow does not end", flow=flow.name)
    elif not work.cancelled():
        work.exception()  # looked at, or asyncio would complain that nobody did


def _turn(
    opening: inference_pb2.GenerateOpen, policy: FlowPolicy, modules: FlowModules, works: Mapping[str, Work]
) -> FlowTurn:
    """What the flow gets; `works` holds what each of its modules does, "" being the profile's model."""
    sampling = sampling_from_wire(opening.sampling)
    return FlowTurn(
        messages=tuple(map(message_from_wire, opening.messages)),
        sampling=sampling,
        tools=tuple(map(tool_from_wire, opening.tools)),
        options=policy.options,
        models={
            name: modules.module(name or opening.model, work, None if name else sampling)
            for name, work in works.items()
        },
    )


def _work(catalogue: Catalogue, where: str, rpc: Rpc) -> Work:
    """What a module does that a policy names so."""
    target = catalogue.target(where)
    # 1. a model of the mesh's own, 2. one of another inference service, 3. anything else
    if target is None:
        return at_engine(lambda: rpc, where)
    if isinstance(target, InferenceTarget):
        place = target.target
        return at_engine(lambda: InferenceServiceStub(channels.get(place)).Generate, target.model)
    return at_target(target)


def _delta(flow: NamedFlow, step: "str | Event") -> generation_pb2.Delta | None:
    """What a step says; None when it is nothing that leaves."""
    match step:
        case str():
            return generation_pb2.Delta(text=step) if step else None
        case Delta(text=text, reasoning=reasoning, tool_call=call, choice=choice, token_count=tokens):
            said = generation_pb2.Delta(choice=choice, text=text, reasoning=reasoning, token_count=tokens)
            if call is not None:
                fragment = generation_pb2.ToolCallDelta(
                    index=call.index, id=call.id, name=call.name, arguments=call.arguments
                )
                said.tool_call.CopyFrom(fragment)
            return said
        case Started() | Verdict() | Progress() | Reconnected():
            return None
        case _:
            raise InternalError(
                f"the flow {flow.name} yielded a value of the type {type(step).__name__}: expected texts or events",
                reason="FLOW_FAILED",
            )


def _failure(flow: NamedFlow, error: BaseException) -> MeshError:
    """The error of a flow: that of a module which it called, or a word about its own."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, MeshError):
            return leaf
    defect = leaves[0]
    # Nobody sees the exception's text: it can quote what a user said.
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(defect.__traceback__)]
    _log.error("a flow failed", flow=flow.name, error_type=type(defect).__name__, at=frames)
    return InternalError(
        f"the flow {flow.name} failed with {type(defect).__name__}; the orchestrator's log says where",
        reason="FLOW_FAILED",
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(part)
    else:
        yield error
