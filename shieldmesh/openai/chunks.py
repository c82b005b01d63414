"""What the server says, chunk by chunk, as steps; and what it has cost up to there. Pure.

Nothing is believed: pydantic reads the bytes of each chunk into the types below, or says that they are none.
"""

from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from shieldmesh.generation import FinishReason, Output, ToolFragment, Usage

from . import failures
from .failures import Complaint

DONE: Final = b"[DONE]"

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Index = Annotated[int, Field(ge=0, le=4095)]


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(BaseModel):
    index: _Index | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Choice(BaseModel):
    index: _Index | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(BaseModel):
    cached_tokens: _Count | None = None


class _Usage(BaseModel):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Timings(BaseModel):
    """llama-server: with each chunk."""

    predicted_n: _Count = 0


class _Progress(BaseModel):
    """llama-server: while it reads the prompt."""

    total: _Count = 0
    cache: _Count = 0


class _Chunk(BaseModel):
    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    prompt_progress: _Progress | None = None
    error: Complaint | str | None = None
    object: str | None = None


_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_BROKEN_OFF: Final = frozenset({"abort", "error"})


class ChunkReader:
    """Translates the chunks of one generation, in order.

    Attributes:
        usage: Tokens up to the last chunk read: as the server told, else one for each chunk with output.
        reason: Why the model ended, once the server has said it.
        done: Whether the server has said that nothing more will come.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.reason: FinishReason | None = None
        self.done = False

    def read(self, data: bytes) -> list[Output]:
        """The output in the data of one event.

        Raises:
            MeshError: it is no chunk, or an error of the server.
        """
        if self.done or data.startswith(DONE):
            self.done = True
            return []
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError:
            raise failures.malformed("a chunk of its answer is not what OpenAI's API describes") from None
        if chunk.error is not None or chunk.object == "error":
            raise failures.reported(chunk.error if isinstance(chunk.error, Complaint) else Complaint())
        choices = chunk.choices or ()
        outputs: list[Output] = []
        for choice in choices:
            if choice.delta is not None:
                _take(choice.delta, choice.index or 0, outputs)
        new_tokens = self._count(chunk, seen=bool(outputs))
        for choice in choices:
            if choice.finish_reason:
                self._note(choice.finish_reason)
        if outputs:
            outputs[0].token_count = new_tokens
        return outputs

    def _note(self, reason: str) -> None:
        if reason in _BROKEN_OFF:
            raise failures.truncated()
        self.reason = _REASONS.get(reason, FinishReason.STOP)

    def _count(self, chunk: _Chunk, *, seen: bool) -> int:
        """Takes over the chunk's counts; how many tokens are new in it."""
        prompt, cached, completion = self.usage.prompt, self.usage.cached, self.usage.completion
        before = completion
        if chunk.prompt_progress is not None:
            prompt, cached = chunk.prompt_progress.total, chunk.prompt_progress.cache
        told = chunk.usage
        if told is not None and told.completion_tokens is not None:
            completion = told.completion_tokens
        elif chunk.timings is not None:
            completion = chunk.timings.predicted_n
        elif seen:
            completion += 1
        if told is not None and told.prompt_tokens is not None:
            details = told.prompt_tokens_details
            prompt, cached = told.prompt_tokens, (details and details.cached_tokens) or 0
        self.usage = Usage(prompt, cached, completion)
        return max(0, completion - before)


def _take(delta: _Delta, index: int, outputs: list[Output]) -> None:
    """Adds the parts of one delta."""
    if reasoning := delta.reasoning_content or delta.reasoning:
        outputs.append(Output(index, reasoning=reasoning))
    if text := delta.content or delta.refusal:
        outputs.append(Output(index, text))
    for call in delta.tool_calls or ():
        function = call.function or _Function()
        fragment = ToolFragment(call.index or 0, call.id or "", function.name or "", function.arguments or "")
        outputs.append(Output(index, tool=fragment))
