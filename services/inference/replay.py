"""The backend `replay`: a script, or the last user message back, as tokens at a given pace.

For tests, benchmarks, and trying the guards from outside. Tokens are the pieces of the cut; the prompt is counted with
the same cut. A script may end in tool calls, whose arguments are cut as texts are.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shieldmesh.errors import InternalError, InvalidArgumentError

from .backend import Finish, FinishReason, GenerationRequest, Message, Output, Step, ToolFragment, Usage
from .options import refused
from .script import Cut, cut, until_end

_SOURCES: Final = frozenset({"text", "pieces", "echo"})


class ReplayedCall(BaseModel):
    """A tool call of a script."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    arguments: str = "{}"
    """JSON text."""


class ReplayOptions(BaseModel):
    """What a replay model plays, and how. A request may override each one; naming a source replaces the model's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = None
    """Source: this text, cut as `cut` says."""
    pieces: tuple[str, ...] | None = None
    """Source: exactly these pieces."""
    echo: bool = False
    """Source: the last user message, cut as `cut` says."""
    tool_calls: tuple[ReplayedCall, ...] = ()
    """What the model calls after it said its text, when the last message is no tool's result."""
    cut: Cut = "words"
    seed: int = 0
    """Of the random cuts."""
    max_length: int = Field(default=8, ge=1, le=1024)
    """Characters of the longest random piece."""
    pace: float = Field(default=0.0, ge=0, le=100_000)
    """Tokens per second. 0 is as fast as they are read, each on its own."""
    first_token_ms: float = Field(default=0.0, ge=0, le=600_000)
    """Milliseconds before the first token."""
    ahead: int = Field(default=256, ge=1, le=65_536)
    """With a pace: tokens that gather at most for a reader that is late. After that, time stands still."""
    fail_after: int | None = Field(default=None, ge=0)
    """The engine fails after so many tokens."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.text is not None, self.pieces is not None, self.echo].count(True) != 1:
            raise ValueError("exactly one of text, pieces and echo must be given")
        return self

    def cut_up(self, text: str) -> list[str]:
        """A text in tokens."""
        return cut(text, self.cut, seed=self.seed, longest=self.max_length)

    def overridden(self, changes: Mapping[str, object]) -> Self:
        """These options with a request's changes.

        Raises:
            InvalidArgumentError: a change is unknown or out of range.
        """
        if not changes:
            return self
        dropped = _SOURCES if _SOURCES & changes.keys() else frozenset[str]()
        kept = self.model_dump(exclude=set(dropped), exclude_defaults=True)
        try:
            return self.model_validate(kept | dict(changes))
        except ValidationError as error:
            raise refused(error, type(self)) from None


class ReplayBackend:
    """Plays scripts; see `services.inference.backend.Backend`."""

    def __init__(self, options: ReplayOptions) -> None:
        self._options = options
        self._script = () if options.text is None else tuple(options.cut_up(options.text))
        self.generated_tokens = 0
        self.context_window = 0

    def generate(self, request: GenerationRequest) -> "Replay":
        """See `Backend.generate`."""
        if request.json_schema is not None:
            raise InvalidArgumentError("a replay model follows no schema: send none", field="response_format")
        options = self._options.overridden(request.options)
        if request.tools and not options.tool_calls:
            raise InvalidArgumentError("this replay model calls no tools: send none", field="tools")
        # A script that all play alike is there once.
        return Replay(self, options, request, self._script if options is self._options else ())

    async def close(self) -> None:
        """See `Backend.close`; there is nothing to free."""


class Replay:
    """One performance; see `services.inference.backend.Generation`."""

    def __init__(
        self, backend: ReplayBackend, options: ReplayOptions, request: GenerationRequest, script: Sequence[str]
    ) -> None:
        """`script` is what the options' text gives, when it has been cut before."""
        self._backend = backend
        self._options = options
        self._request = request
        self._script = script
        self._prompt = sum(len(options.cut_up(message.text)) for message in request.messages)
        self._sent = 0
        self._clock = _Clock(options)

    @property
    def usage(self) -> Usage:
        """See `Generation.usage`."""
        return Usage(prompt=self._prompt, completion=self._sent)

    async def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """See `Generation.batches`."""
        sampling = self._request.sampling
        text, reason = until_end(self._source(), stop=sampling.stop, max_tokens=sampling.max_tokens)
        pieces: Sequence[str | ToolFragment] = text
        if reason is FinishReason.STOP and (calls := self._calls()):
            pieces, reason = [*text, *calls], FinishReason.TOOL_CALLS
        end = len(pieces) if self._options.fail_after is None else min(len(pieces), self._options.fail_after)
        self._clock.start()
        while self._sent < end:
            count = min(await self._clock.due(self._sent), end - self._sent)
            if self._clock.stopped:
                return
            batch = [_output(piece) for piece in pieces[self._sent : self._sent + count]]
            self._sent += count
            self._backend.generated_tokens += count
            yield batch
        if self._sent == self._options.fail_after:
            raise InternalError("the engine failed, as the model's options ask", reason="ENGINE_FAILED")
        yield [Finish(reason)]

    def stop(self) -> None:
        """See `Generation.stop`."""
        self._clock.stop()

    def _source(self) -> Sequence[str]:
        options = self._options
        if options.pieces is not None:
            return options.pieces
        if options.text is not None:
            return self._script or options.cut_up(options.text)
        return options.cut_up(_last_user_text(self._request.messages))

    def _calls(self) -> list[ToolFragment]:
        """The script's tool calls in tokens; none for whoever brings their results."""
        if self._request.messages[-1].role == "tool":
            return []
        fragments: list[ToolFragment] = []
        for index, call in enumerate(self._options.tool_calls):
            fragments.append(ToolFragment(index, id=f"call_{index}", name=call.name))
            fragments += [ToolFragment(index, arguments=each) for each in self._options.cut_up(call.arguments)]
        return fragments


def _output(piece: str | ToolFragment) -> Output:
    if isinstance(piece, str):
        return Output(text=piece, token_count=1)
    return Output(tool=piece, token_count=1)


class _Clock:
    """Says how many tokens are due. Every token's time counts from the start, so a late one delays no other."""

    def __init__(self, options: ReplayOptions) -> None:
        self._loop = asyncio.get_running_loop()
        self._pace = options.pace
        self._ahead = options.ahead
        self._first = options.first_token_ms / 1000
        self._zero = 0.0
        self._bell = asyncio.Event()
        self.stopped = False

    def start(self) -> None:
        """Time begins."""
        self._zero = self._loop.time() + self._first

    def stop(self) -> None:
        """Ends the waiting, now and for ever."""
        self.stopped = True
        self._bell.set()

    async def due(self, sent: int) -> int:
        """Waits for the next token's time, or for `stop`; then how many are due, 1 or more."""
        wait = self._time_of(sent) - self._loop.time()
        if wait > 0 and not self.stopped:
            self._bell.clear()
            alarm = self._loop.call_later(wait, self._bell.set)
            try:
                await self._bell.wait()
            finally:
                alarm.cancel()
        else:
            await asyncio.sleep(0)
        if not self._pace:
            return 1
        late = int((self._loop.time() - self._time_of(sent)) * self._pace)
        if late >= self._ahead:
            # An engine with a bounded buffer would have stopped: shift the time by what it would have waited.
            self._zero += (late - self._ahead + 1) / self._pace
        return 1 + max(0, min(late, self._ahead - 1))

    def _time_of(self, token: int) -> float:
        return self._zero + (token / self._pace if self._pace else 0.0)


def _last_user_text(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")
