"""The engine's chunks become steps, counted as the engine counts."""

from typing import Any

import pytest

from services.inference.backend import Finish, FinishReason, Output, Step, ToolFragment, Usage
from services.inference.llamacpp.chunks import ChunkReader
from shieldmesh.errors import InternalError, InvalidArgumentError

PROGRESS = {"prompt_progress": {"total": 10, "cache": 4, "processed": 8, "time_ms": 1}}
COST = {"completion_tokens": 6, "prompt_tokens": 10, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4}}


def chunk(delta: dict[str, Any], generated: int = 0, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"choices": [choice], **({"timings": {"predicted_n": generated}} if generated else {})}


def test_token_counts_come_from_the_engine_not_from_the_chunks() -> None:
    """A chunk that completes four tokens says so; chunks without text make no step."""
    reader = ChunkReader()
    steps = read(
        reader,
        chunk({"role": "assistant", "content": None}) | PROGRESS,
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "a"}, 1),
        chunk({"content": "🦜"}, 5),
    )
    assert steps == [Output(text="a", token_count=1), Output(text="🦜", token_count=4)]
    assert reader.usage == Usage(prompt=10, cached=4, completion=5)


@pytest.mark.parametrize("reason", [FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS])
def test_the_last_chunk_brings_the_reason_and_the_usage(reason: FinishReason) -> None:
    """The reason comes one chunk before the usage; both make the end."""
    reader = ChunkReader()
    steps = read(reader, chunk({}, reason=reason.name.lower()), {"choices": [], "usage": COST})
    assert steps == [Finish(reason)]
    assert reader.usage == Usage(prompt=10, cached=4, completion=6)


def test_reasoning_and_tool_calls_keep_their_kinds() -> None:
    """Each part of a delta is a step of its own; the tokens count once."""
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    steps = read(
        ChunkReader(),
        chunk({"reasoning_content": "hm", "content": "so"}, 2),
        chunk({"tool_calls": [call]}, 3),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, 5),
    )
    assert steps == [
        Output(reasoning="hm", token_count=2),
        Output(text="so"),
        Output(tool=ToolFragment(0, "c1", "weather"), token_count=1),
        Output(tool=ToolFragment(0, arguments="{}"), token_count=2),
    ]


def test_errors_of_the_engine_are_typed_and_not_quoted() -> None:
    """Too long a prompt is the caller's to solve, anything else is ours; the engine's words stay here."""
    too_long = {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8, "message": "secret"}
    with pytest.raises(InvalidArgumentError, match="9 tokens") as refused:
        read(ChunkReader(), {"error": too_long})
    assert (refused.value.reason, refused.value.field) == ("CONTEXT_TOO_LONG", "messages")
    with pytest.raises(InternalError) as failed:
        read(ChunkReader(), {"error": {"type": "server_error", "message": "secret"}})
    assert failed.value.reason == "ENGINE_FAILED"
    assert "secret" not in str(refused.value) + str(failed.value)


def read(reader: ChunkReader, *chunks: dict[str, Any]) -> list[Step]:
    return [step for one in chunks for step in reader.read(one)]
