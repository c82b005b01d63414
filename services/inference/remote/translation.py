"""Between the backends' values and the contract's messages: what a caller of InferenceService says and hears. Pure."""

from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from services.inference.backend import FinishReason, GenerationRequest, Message, Output, Role, ToolFragment, Usage
from shieldmesh.v1 import generation_pb2, inference_pb2, message_pb2
from shieldmesh.window import window

_ROLES: Final[dict[Role, message_pb2.Role.ValueType]] = {
    "system": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}

REASONS: Final[dict[int, FinishReason]] = {
    generation_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    generation_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    generation_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    generation_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
}
"""Why a model ends; CANCELLED is not among them, that is somebody else's doing."""


def to_opening(model: str, request: GenerationRequest) -> inference_pb2.GenerateOpen:
    """The opening that asks `model` for an answer to `request`."""
    sampling = request.sampling
    return inference_pb2.GenerateOpen(
        model=model,
        messages=map(_message, request.messages),
        sampling=generation_pb2.Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stop=sampling.stop,
        ),
        tools=[
            message_pb2.Tool(name=tool.name, description=tool.description, parameters_json_schema=tool.parameters)
            for tool in request.tools
        ],
        response_format=(
            None if request.json_schema is None else message_pb2.ResponseFormat(json_schema=request.json_schema)
        ),
        options=json_format.ParseDict(dict(request.options), Struct()),
        window=window(),
    )


def from_delta(delta: generation_pb2.Delta) -> Output:
    """New output."""
    call = delta.tool_call
    tool = ToolFragment(call.index, call.id, call.name, call.arguments) if delta.HasField("tool_call") else None
    return Output(delta.choice, delta.text, delta.reasoning, tool, delta.token_count)


def from_usage(usage: generation_pb2.Usage) -> Usage:
    """What a generation cost."""
    return Usage(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)


def _message(message: Message) -> message_pb2.Message:
    return message_pb2.Message(
        role=_ROLES[message.role],
        parts=[message_pb2.ContentPart(text=message.text)] if message.text or message.role != "assistant" else [],
        tool_calls=[
            message_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )
