"""The values of one generation, from the request to what it cost, for whoever generates or asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant message makes; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; None takes the model's default. Ranges as in `shieldmesh.v1.Sampling`."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON Schema as JSON text, or ""."""

    name: str
    description: str
    parameters: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A validated request. `options` are the backend's own, not yet checked."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    json_schema: str | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class ToolFragment:
    """A piece of a tool call; `id` and `name` come with its first one."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)  # not frozen, which makes each four times as dear: there is one for each token
class Output:
    """New output of one choice: text, reasoning, or a tool call's fragment, and the tokens that it completes."""

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    tool: ToolFragment | None = None
    token_count: int = 0


class FinishReason(Enum):
    """Why a generation ended."""

    STOP = auto()
    LENGTH = auto()
    TOOL_CALLS = auto()
    CONTENT_FILTER = auto()
    """A filter that the model's server has of its own withheld the rest."""
    CANCELLED = auto()
    """It was told to stop. No backend says this: its steps just end."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The last step of a generation that was neither cancelled nor failed."""

    reason: FinishReason


Step = Output | Finish


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the engine counts them."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion
