"""A request in the words of OpenAI's chat completions, which more than one backend speaks. Pure."""

import json
from typing import Any

from shieldmesh.generation import GenerationRequest, Message, Sampling, Tool

Json = dict[str, Any]  # JSON has no better type


def chat_completion(request: GenerationRequest, *, seeds: int, max_tokens: str = "max_tokens") -> Json:
    """The body of a streamed request, but for the model and for what only some servers know.

    Args:
        request: What is asked.
        seeds: How many seeds the server has; larger ones wrap around.
        max_tokens: What the server calls the most tokens to generate.
    """
    body: Json = {
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling, seeds, max_tokens),
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


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


def _sampling(sampling: Sampling, seeds: int, max_tokens: str) -> Json:
    given: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        max_tokens: sampling.max_tokens,
        "seed": None if sampling.seed is None else sampling.seed % seeds,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _tool(tool: Tool) -> Json:
    parameters: Json = json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
