"""A request in the words of OpenAI's chat completions. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from services.inference.backend import GenerationRequest, Message, Sampling, Tool
from shieldmesh.errors import InvalidArgumentError

from .options import Dialect, OpenAIOptions

Json = dict[str, Any]  # JSON has no better type


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What a server knows beside the documented API.

    Attributes:
        top_k: Sampling by rank.
        seeds: How many seeds there are.
        exact: What makes each chunk tell the tokens generated so far.
    """

    top_k: bool
    seeds: int
    exact: Mapping[str, Any]


_DIALECTS: Final[Mapping[Dialect, _Dialect]] = MappingProxyType(
    {
        "openai": _Dialect(top_k=False, seeds=2**63, exact={}),
        "vllm": _Dialect(
            top_k=True,
            seeds=2**63,
            exact={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        # Its seeds have 32 bits, and the largest one means "random".
        "llama-server": _Dialect(
            top_k=True, seeds=2**32 - 1, exact={"timings_per_token": True, "return_progress": True}
        ),
    }
)


def chat_completion(request: GenerationRequest, options: OpenAIOptions) -> bytes:
    """The body for `request`, as JSON.

    Raises:
        InvalidArgumentError: the server is not said to know what the request asks.
    """
    dialect = _DIALECTS[options.dialect]
    if request.tools and not options.tools:
        raise InvalidArgumentError("this model is given no tools: send none", field="tools")
    if request.sampling.top_k is not None and not dialect.top_k:
        raise InvalidArgumentError(
            "the server of this model is not said to know top_k: leave it out", field="sampling.top_k"
        )
    body: Json = {
        "model": options.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **dialect.exact,
        **_sampling(request.sampling, dialect, options.max_tokens_field),
        **options.extra,
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _message(message: Message) -> Json:
    result: Json = {"role": message.role, "content": message.text}
    if message.tool_calls:
        result["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    return result


def _sampling(sampling: Sampling, dialect: _Dialect, max_tokens_field: str) -> Json:
    given: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        max_tokens_field: sampling.max_tokens,
        "seed": None if sampling.seed is None else sampling.seed % dialect.seeds,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _tool(tool: Tool) -> Json:
    parameters: Json = json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
