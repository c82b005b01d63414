"""The seam between the service and what generates: one small Protocol, and the values that pass through it.

A backend knows nothing of gRPC. It counts tokens where they arise, so that usage is right however a generation ends.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from shieldmesh.generation import (
    Finish,
    FinishReason,
    GenerationRequest,
    Message,
    Output,
    Role,
    Sampling,
    Step,
    Tool,
    ToolCall,
    ToolFragment,
    Usage,
)

__all__ = [
    "Backend",
    "Finish",
    "FinishReason",
    "Generation",
    "GenerationRequest",
    "Message",
    "Output",
    "Role",
    "Sampling",
    "Step",
    "Tool",
    "ToolCall",
    "ToolFragment",
    "Usage",
]


class Generation(Protocol):
    """One answer to one request. Nothing runs before `batches` is iterated."""

    @property
    def usage(self) -> Usage:
        """What it has cost so far; final once `batches` has ended or was closed, also by cancellation."""
        ...

    def batches(self) -> AsyncGenerator[Sequence[Step], None]:
        """All steps, each time those that gathered since the last were taken.

        A `Finish` is the very last, unless the generation was stopped.

        To be iterated once. Closing it, or cancelling the task in it, stops the engine; it ends when the engine has
        really left this generation. It runs ahead of its reader by a bounded number of tokens.

        Raises:
            MeshError: the engine refused the request or failed.
        """
        ...

    def stop(self) -> None:
        """Tells the engine, at any time, to end early: `batches` ends soon, after the steps that came before."""
        ...


class Backend(Protocol):
    """Something that generates, for one model. Belongs to the loop that opened it."""

    @property
    def context_window(self) -> int:
        """The longest prompt and answer together, in tokens; 0 means unknown."""
        ...

    @property
    def generated_tokens(self) -> int:
        """Tokens generated since the start."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """The generation that answers `request`, not yet running.

        Raises:
            InvalidArgumentError: this backend cannot do what the request asks; `field` names it.
        """
        ...

    async def close(self) -> None:
        """Frees the engine. No generation may be running."""
        ...
