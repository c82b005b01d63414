"""Chunks become steps, and their counts the usage."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shieldmesh.errors import MeshError
from shieldmesh.generation import FinishReason, Output, ToolFragment, Usage
from shieldmesh.openai.chunks import DONE, ChunkReader


def test_text_reasoning_and_refusals_are_told_apart() -> None:
    """Both names of reasoning are known; a refusal is what the model says."""
    reader = ChunkReader()
    deltas = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"reasoning": "so"},
        {"reasoning": "then", "content": "a"},
        {"content": "b"},
        {"refusal": "no"},
    ]
    assert [output for delta in deltas for output in read(reader, delta)] == [
        Output(reasoning="hm", token_count=1),
        Output(reasoning="so", token_count=1),
        Output(reasoning="then", token_count=1),
        Output(text="a"),
        Output(text="b", token_count=1),
        Output(text="no", token_count=1),
    ]
    assert reader.usage == Usage(completion=5)


def test_tool_calls_come_in_fragments() -> None:
    """The id and the name come with the first fragment of each call, the arguments piece by piece."""
    reader = ChunkReader()
    calls: list[list[dict[str, Any]]] = [
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"x":'}}],
        [
            {"index": 0, "function": {"arguments": "1}"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        ],
    ]
    outputs = [output for call in calls for output in read(reader, {"content": None, "tool_calls": call})]
    assert [output.tool for output in outputs] == [
        ToolFragment(0, "a", "f"),
        ToolFragment(0, arguments='{"x":'),
        ToolFragment(0, arguments="1}"),
        ToolFragment(1, "b", "g", "{}"),
    ]
    read(reader, {}, reason="tool_calls")
    assert reader.reason is FinishReason.TOOL_CALLS
    assert [output.token_count for output in outputs] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", FinishReason.STOP),
        ("eos_token", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
    ],
)
def test_reasons_are_known(said: str, meant: FinishReason) -> None:
    """Those that no document names are taken for a good end."""
    reader = ChunkReader()
    read(reader, {"content": "x"}, reason=said)
    assert (reader.reason, reader.done) == (meant, False)
    assert reader.read(DONE) == []
    assert reader.done


def test_usage_with_each_chunk_counts_exactly() -> None:
    """As vLLM tells it with continuous_usage_stats: a chunk can complete several tokens, or none."""
    reader = ChunkReader()
    counts = [
        read(reader, {"content": "x"}, usage={"prompt_tokens": 9, "completion_tokens": told})[0].token_count
        for told in (1, 4, 4)
    ]
    assert counts == [1, 3, 0]
    assert reader.usage == Usage(prompt=9, completion=4)


def test_llama_server_tells_the_prompt_first_and_tokens_with_each_chunk() -> None:
    """Before any text the prompt is counted, cached tokens too."""
    reader = ChunkReader()
    assert read(reader, {"content": None}, prompt_progress={"total": 31, "cache": 30, "processed": 30}) == []
    assert reader.usage == Usage(31, 30, 0)
    assert read(reader, {"content": "é"}, timings={"predicted_n": 3}) == [Output(text="é", token_count=3)]
    assert reader.usage == Usage(31, 30, 3)


def test_the_final_usage_replaces_what_was_seen() -> None:
    """Also when it is lower; the deltas' counts never go down."""
    reader = ChunkReader()
    for _ in range(5):
        read(reader, {"content": "x"})
    final = {"prompt_tokens": 2, "completion_tokens": 4, "prompt_tokens_details": None}
    assert reader.read(json.dumps({"choices": [], "usage": final}).encode()) == []
    assert reader.usage == Usage(2, 0, 4)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from(
    [
        "choices",
        "delta",
        "index",
        "content",
        "tool_calls",
        "function",
        "finish_reason",
        "usage",
        "error",
        "code",
        "object",
    ]
)
NESTED = st.recursive(
    SCALARS, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(NAMES, deeper, max_size=4), max_leaves=12
)


@settings(max_examples=60)
@given(
    st.one_of(st.binary(max_size=20), st.dictionaries(NAMES, NESTED, max_size=4).map(lambda x: json.dumps(x).encode()))
)
def test_whatever_comes_is_understood_or_a_typed_error(data: bytes) -> None:
    """Nothing that a server can send raises anything else, and the usage never goes wrong."""
    reader = ChunkReader()
    try:
        outputs = reader.read(data)
    except MeshError:
        outputs = []
    assert sum(output.token_count for output in outputs) <= max(1, reader.usage.completion)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": None, "usage": None},
        {"choices": [{"index": None, "delta": None, "finish_reason": None}]},
        {"choices": [{"delta": {"tool_calls": None, "content": None, "role": None}}]},
    ],
)
def test_what_is_null_is_not_there(chunk: dict[str, Any]) -> None:
    """Servers differ in what they leave out and what they call null."""
    assert ChunkReader().read(json.dumps(chunk).encode()) == []


def read(reader: ChunkReader, delta: dict[str, Any], *, reason: str | None = None, **fields: Any) -> list[Output]:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}], **fields}
    return reader.read(json.dumps(chunk).encode())
