"""What a flow works with, an asynchronous generator that answers a turn in the place of a model; see docs/flows.md."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shieldmesh.client.conversation import Message, Role, Sampling, Tool
from shieldmesh.client.events import Event
from shieldmesh.errors import FailedPreconditionError
from shieldmesh.module.module import Module


@dataclass(frozen=True, slots=True)
class FlowTurn:
    """One turn, as its flow sees it."""

    messages: tuple[Message, ...] = field(repr=False)  # what people say belongs in no log
    """The conversation that the model would be asked, behind the input shields: the profile's prompt first."""
    sampling: Sampling
    """The profile's, with what the caller may change; calls of `model()` take from it what they do not say."""
    tools: tuple[Tool, ...]
    """Those that the caller brought. A module gets them only from the flow."""
    options: Mapping[str, Any]  # Any: JSON, as the profile says it
    """`flow.options` of the profile."""
    models: Mapping[str, Module]
    """The modules of the profile: "" stands for its model, other names for those of `flow.modules`."""

    def model(self, name: str = "") -> Module:
        """The profile's model, or its module of this name.

        Raises:
            FailedPreconditionError: the profile has none.
        """
        if name not in self.models:
            known = ", ".join(sorted(filter(None, self.models))) or "none"
            message = f"the flow wants a module {name!r} which its profile does not name: flow.modules has {known}"
            raise FailedPreconditionError(message, reason="MODULE_NOT_FOUND")
        return self.models[name]

    @property
    def question(self) -> str:
        """What the user said last."""
        return next((message.text for message in reversed(self.messages) if message.role == Role.USER), "")


Flow = Callable[[FlowTurn], AsyncGenerator[str | Event]]
"""Yields what the user is to see, as texts or as events of a module: deltas are passed on, `Finished` says why the
answer ends, all others are left out. What it does not yield never leaves."""
