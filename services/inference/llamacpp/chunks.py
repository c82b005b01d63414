"""What the engine says, chunk by chunk, as steps; and what it has cost up to there."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.inference.backend import Finish, FinishReason, Output, Step, ToolFragment, Usage
from shieldmesh.errors import InternalError, InvalidArgumentError, MeshError

Json = Mapping[str, Any]  # parsed JSON has no better type

_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
}


class ChunkReader:
    """Translates the chunks of one generation, in order.

    The engine holds back tokens that end within a code point, so a chunk can stand for several tokens: the counts come
    from its timings, never from the number of chunks.

    Attributes:
        usage: Tokens up to the last chunk read. The prompt counts whole from the moment the engine takes it on.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self._reason = FinishReason.STOP

    def read(self, chunk: Json) -> Iterator[Step]:
        """The steps in one chunk.

        Raises:
            MeshError: the chunk is the engine's error.
        """
        if "error" in chunk:
            raise engine_error(chunk["error"])
        new_tokens = self._count(chunk)
        for choice in chunk["choices"]:
            self._reason = _REASONS.get(choice["finish_reason"], self._reason)
            for output in _outputs(choice["index"], choice["delta"], new_tokens):
                yield output
                new_tokens = 0
        if "usage" in chunk:
            yield Finish(self._reason)

    def _count(self, chunk: Json) -> int:
        """Takes over the chunk's counts; how many tokens are new in it."""
        before = self.usage
        if "usage" in chunk:
            cost = chunk["usage"]
            cached = cost.get("prompt_tokens_details", {}).get("cached_tokens", 0)
            self.usage = Usage(cost["prompt_tokens"], cached, cost["completion_tokens"])
        elif "prompt_progress" in chunk:
            progress = chunk["prompt_progress"]
            self.usage = Usage(progress["total"], progress["cache"], before.completion)
        elif "timings" in chunk:
            self.usage = Usage(before.prompt, before.cached, chunk["timings"]["predicted_n"])
        return self.usage.completion - before.completion


def engine_error(error: Json) -> MeshError:
    """The typed error for one of the engine's: its message can quote the request, so it is not passed on."""
    kind = error.get("type")
    if kind == "exceed_context_size_error":
        return InvalidArgumentError(
            f"the prompt has {error.get('n_prompt_tokens')} tokens and the model's context window "
            f"{error.get('n_ctx')}: send less text",
            reason="CONTEXT_TOO_LONG",
            field="messages",
        )
    return InternalError("the engine failed; the log of the inference service says more", reason="ENGINE_FAILED")


def _outputs(choice: int, delta: Json, new_tokens: int) -> Iterator[Output]:
    """The parts of one delta, the tokens counted on the first."""
    if reasoning := delta.get("reasoning_content"):
        yield Output(choice, reasoning=reasoning, token_count=new_tokens)
        new_tokens = 0
    if text := delta.get("content"):
        yield Output(choice, text=text, token_count=new_tokens)
        new_tokens = 0
    for call in delta.get("tool_calls") or ():
        function = call.get("function", {})
        fragment = ToolFragment(
            call["index"], call.get("id") or "", function.get("name") or "", function.get("arguments") or ""
        )
        yield Output(choice, tool=fragment, token_count=new_tokens)
        new_tokens = 0
