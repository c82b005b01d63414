"""A request is said in the words of OpenAI's API, and in those alone that the server is said to know."""

import json
from typing import Any

import pytest

from services.inference.backend import GenerationRequest, Message, Sampling, Tool, ToolCall
from services.inference.openai.options import OpenAIOptions
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.openai.body import server_request

PLAIN = GenerationRequest((Message("user", "hi"),))


def test_everything_that_a_request_can_say() -> None:
    """Conversation, tools, schema and sampling arrive as the API names them."""
    request = GenerationRequest(
        (
            Message("system", "be brief"),
            Message("user", "weather?"),
            Message("assistant", "", (ToolCall("a", "weather", '{"city":"Bonn"}'),)),
            Message("tool", "rain", tool_call_id="a"),
        ),
        Sampling(
            temperature=0.0,
            top_p=0.9,
            frequency_penalty=0.1,
            presence_penalty=-0.1,
            max_tokens=5,
            seed=2**63 + 7,
            stop=("x",),
        ),
        (Tool("weather", "the weather", '{"type":"object"}'), Tool("now", "", "")),
        '{"type":"string"}',
    )
    assert body(request) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
                ],
            },
            {"role": "tool", "content": "rain", "tool_call_id": "a"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "max_tokens": 5,
        "seed": 7,
        "stop": ["x"],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "the weather", "parameters": {"type": "object"}},
            },
            {
                "type": "function",
                "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "string"}},
        },
    }


def test_a_request_that_says_nothing_leaves_everything_to_the_server() -> None:
    """No value of ours stands in for one that is not set."""
    assert body(PLAIN).keys() == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_tokens_field": "max_completion_tokens"}, {"max_completion_tokens": 5}),
        ({"dialect": "vllm"}, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
        ({"dialect": "vllm"}, {"top_k": 3}),
        ({"dialect": "llama-server"}, {"timings_per_token": True, "return_progress": True, "top_k": 3, "seed": 1}),
        ({"dialect": "vllm", "extra": {"min_p": 0.1}}, {"min_p": 0.1}),
    ],
)
def test_what_the_options_add(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Names, extensions and fields of the server."""
    top_k = 3 if "dialect" in options else None
    sampling = Sampling(max_tokens=5, top_k=top_k, seed=2**32)
    assert expected.items() <= body(GenerationRequest(PLAIN.messages, sampling), **options).items()


@pytest.mark.parametrize(
    ("request_", "options", "field"),
    [
        (GenerationRequest(PLAIN.messages, Sampling(top_k=3)), {}, "sampling.top_k"),
        (GenerationRequest(PLAIN.messages, tools=(Tool("f", "", ""),)), {"tools": False}, "tools"),
    ],
)
def test_what_the_server_is_not_said_to_know_is_refused(
    request_: GenerationRequest, options: dict[str, Any], field: str
) -> None:
    """Rather than dropped in silence."""
    with pytest.raises(InvalidArgumentError) as caught:
        body(request_, **options)
    assert caught.value.field == field


def body(request: GenerationRequest, **options: Any) -> dict[str, Any]:
    given = OpenAIOptions.model_validate({"url": "http://localhost:1/v1", "model": "m", **options})
    decoded: dict[str, Any] = json.loads(server_request(request, given))
    return decoded
