"""Between the contract's messages and the backends' values."""

from typing import Final

from google.protobuf import json_format

from shieldmesh.errors import duration
from shieldmesh.v1 import generation_pb2, inference_pb2, message_pb2

from .backend import FinishReason, GenerationRequest, Message, Output, Role, Sampling, Tool, ToolCall, Usage

_ROLES: Final[dict[int, Role]] = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
}

_REASONS: Final = {
    FinishReason.STOP: generation_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: generation_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: generation_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: generation_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.CANCELLED: generation_pb2.FINISH_REASON_CANCELLED,
}


def from_request(request: inference_pb2.GenerateOpen) -> GenerationRequest:
    """A validated request as a backend takes it."""
    constrained = request.response_format.HasField("json_schema")
    return GenerationRequest(
        messages=tuple(map(_message, request.messages)),
        sampling=_sampling(request.sampling),
        tools=tuple(Tool(tool.name, tool.description, tool.parameters_json_schema) for tool in request.tools),
        json_schema=request.response_format.json_schema if constrained else None,
        options=json_format.MessageToDict(request.options),
    )


def started_event(model: str, queued: float, asked: inference_pb2.GenerateOpen) -> inference_pb2.GenerateEvent:
    """The first event: admitted after `queued` seconds, with the window that was asked for."""
    window = asked.window if asked.HasField("window") else None
    started = inference_pb2.GenerateStarted(model=model, queued=duration(queued), window=window)
    return inference_pb2.GenerateEvent(started=started)


def delta_event(output: Output) -> inference_pb2.GenerateEvent:
    """One output as an event."""
    event = inference_pb2.GenerateEvent()
    # Written in place: a message that is made to be copied into another costs three times as much, for each token.
    delta = event.delta
    delta.token_count = output.token_count
    if output.choice:
        delta.choice = output.choice
    if output.text:
        delta.text = output.text
    if output.reasoning:
        delta.reasoning = output.reasoning
    if (tool := output.tool) is not None:
        call = delta.tool_call
        call.index, call.id, call.name, call.arguments = tool.index, tool.id, tool.name, tool.arguments
    return event


def finished_event(
    reason: FinishReason, cost: Usage, *, first_token: float | None, total: float
) -> inference_pb2.GenerateEvent:
    """The last event; times in seconds from admission."""
    finished = inference_pb2.GenerateFinished(
        reason=_REASONS[reason],
        usage=usage(cost),
        time_to_first_token=None if first_token is None else duration(first_token),
        duration=duration(total),
    )
    return inference_pb2.GenerateEvent(finished=finished)


def usage(cost: Usage) -> generation_pb2.Usage:
    """What a generation cost."""
    return generation_pb2.Usage(
        prompt_tokens=cost.prompt,
        cached_tokens=cost.cached,
        completion_tokens=cost.completion,
        total_tokens=cost.total,
    )


def _message(message: message_pb2.Message) -> Message:
    return Message(
        role=_ROLES[message.role],
        text="".join(part.text for part in message.parts),
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def _sampling(sampling: generation_pb2.Sampling) -> Sampling:
    return Sampling(
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        top_k=sampling.top_k if sampling.HasField("top_k") else None,
        frequency_penalty=sampling.frequency_penalty if sampling.HasField("frequency_penalty") else None,
        presence_penalty=sampling.presence_penalty if sampling.HasField("presence_penalty") else None,
        max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
        seed=sampling.seed if sampling.HasField("seed") else None,
        stop=tuple(sampling.stop),
    )
