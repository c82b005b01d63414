"""A request in the words of the engine: the body of an OpenAI chat completion, with llama.cpp's extensions."""

import json
from typing import Any

from services.inference.backend import GenerationRequest, Message, Sampling, Tool

from .options import LlamaRequestOptions

# llama.cpp's seeds have 32 bits, and the largest one means "random".
_SEEDS = 2**32 - 1

Json = dict[str, Any]  # JSON has no better type


def chat_completion(request: GenerationRequest, options: LlamaRequestOptions) -> Json:
    """The body for `request`.

    It asks for two extensions that exact accounting and prompt cancellation stand on: the number of generated tokens
    with each chunk, and a chunk after each step of reading the prompt.
    """
    body: Json = {
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "timings_per_token": True,
        "return_progress": True,
        **_sampling(request.sampling),
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(request.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if options.ignore_eos:
        body["ignore_eos"] = True
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


def _sampling(sampling: Sampling) -> Json:
    given: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "max_tokens": sampling.max_tokens,
        "seed": None if sampling.seed is None else sampling.seed % _SEEDS,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _tool(tool: Tool) -> Json:
    parameters: Json = json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
