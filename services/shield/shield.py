"""The seam of all shields: what one sees of a text, and up to where it has made up its mind.

A shield looks at each text (lane) with a state of its own. These shields answer in microseconds: `Lane.feed` is called
on the loop, between a text and its answer. A shield that has to wait for something (a model, a thread, another
service) gets a seam beside this one, `async feed` in a task of its own with a timeout around it, and reports the same
`Progress` to the same ledger.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from shieldmesh.v1 import policy_pb2


class Finding(NamedTuple):
    """What a shield saw, in code points of its text."""

    kind: str
    start: int
    end: int
    score: float


class Progress(NamedTuple):
    """What a shield knows after some of the text.

    All later findings start at or after `decided`; of those that may redact or block, at or after `watermark`.
    """

    findings: tuple[Finding, ...]
    watermark: int
    decided: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What the policy says about one shield of a set."""

    name: str
    action: policy_pb2.Action.ValueType
    action_by_kind: dict[str, policy_pb2.Action.ValueType]
    fails_open: bool
    timeout: float
    """Seconds for one inspection."""
    removes: bool = False
    """Whether a redaction leaves nothing in its place."""

    def action_for(self, kind: str) -> policy_pb2.Action.ValueType:
        """What to do about findings of this kind."""
        return self.action_by_kind.get(kind, self.action)

    def placeholder(self, kind: str) -> str:
        """What takes the place of a finding of this kind."""
        return "" if self.removes else f"[{kind.upper()}]"

    @property
    def may_hold(self) -> bool:
        """Whether text has to wait for this shield at all."""
        return max([self.action, *self.action_by_kind.values()]) >= policy_pb2.ACTION_REDACT

    def holds(self, kind: str) -> bool:
        """Whether text must wait until it is known to be free of this kind."""
        return self.action_for(kind) >= policy_pb2.ACTION_REDACT


class Lane(Protocol):
    """A shield's view of one text."""

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now. Nothing follows after `end`."""
        ...


class Shield(Protocol):
    """A check on text. Immutable: what it remembers of a text is in the text's lane."""

    @property
    def rules(self) -> Rules:
        """What the policy says about it."""
        ...

    @property
    def kind(self) -> Literal["match", "window", "whole"]:
        """How much text it needs to see."""
        ...

    def lane(self) -> Lane:
        """A fresh view of a new text."""
        ...
