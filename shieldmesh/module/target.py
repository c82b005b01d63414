"""The seam between a module and what answers for it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from shieldmesh.client.conversation import Message, Sampling, Tool
from shieldmesh.client.events import Event


@dataclass(frozen=True, slots=True)
class Ask:
    """What a module is asked."""

    messages: tuple[Message, ...] = field(repr=False)  # what people say belongs in no log
    sampling: Sampling | None = None
    tools: tuple[Tool, ...] = ()
    timeout: float | None = None
    """Seconds that the whole answer may take; None leaves it to the current deadline."""


@runtime_checkable
class Target(Protocol):
    """Something that answers."""

    def answer(self, ask: Ask) -> AsyncGenerator[Event]:
        """The events from `Started` to `Finished`, numbered from 1; closing it ends the work.

        Raises:
            MeshError: it could not do its job.
        """
        ...
