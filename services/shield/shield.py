"""The seam of all shields: what one sees of a text, and up to where it has made up its mind.

A shield looks at each text (lane) with a state of its own, and tells its `Progress`. There are two ways to be one:

- A `QuickShield` answers in microseconds: its lanes are fed on the loop, between a text and its answer.
- A `SlowShield` waits for something (a model, a thread, another service): each of its lanes is fed in a task of its
  own, in the shield's span and with a timeout around it, with all the text that has gathered meanwhile.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from shieldmesh.v1 import policy_pb2

Action: TypeAlias = policy_pb2.Action.ValueType
Kind = Literal["match", "window", "whole"]


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


class Threshold(NamedTuple):
    """The action from a score on."""

    score: float
    action: Action


@dataclass(frozen=True, slots=True)
class Rules:
    """What the policy says about one shield of a set."""

    name: str
    action: Action
    action_by_kind: Mapping[str, Action]
    fails_open: bool
    timeout: float
    """Seconds for one inspection."""
    kind: Kind = "match"
    """How much text it needs to see."""
    thresholds: Mapping[str, Sequence[Threshold]] = field(default_factory=dict[str, Sequence[Threshold]])
    """Actions by score, of each kind or (under "") of every kind without its own; the highest score first."""
    parts: frozenset[policy_pb2.TextPart.ValueType] = frozenset(policy_pb2.TextPart.values())
    """The texts that it looks at; others pass it."""
    placeholder: str = "[{kind}]"
    """What takes the place of a finding: `{kind}` and `{pseudonym}` are filled in."""
    strictest: Action = field(init=False)
    """The most that it may do."""
    may_hold: bool = field(init=False)
    """Whether text has to wait for this shield at all."""

    def __post_init__(self) -> None:
        by_score = (step.action for steps in self.thresholds.values() for step in steps)
        plain = () if "" in self.thresholds else (self.action,)
        actions: list[Action] = [policy_pb2.ACTION_ALLOW, *plain, *self.action_by_kind.values(), *by_score]
        object.__setattr__(self, "strictest", max(actions))
        object.__setattr__(self, "may_hold", self.strictest >= policy_pb2.ACTION_REDACT)

    def action_for(self, kind: str, score: float = 1.0) -> Action:
        """What to do about findings of this kind and score."""
        steps = self._steps(kind)
        if steps is None:
            return self.action_by_kind.get(kind, self.action)
        return next((step.action for step in steps if score >= step.score), policy_pb2.ACTION_ALLOW)

    def holds(self, kind: str, score: float = 1.0) -> bool:
        """Whether text must wait until it is known to be free of this kind."""
        return self.action_for(kind, score) >= policy_pb2.ACTION_REDACT

    def _steps(self, kind: str) -> Sequence[Threshold] | None:
        if kind in self.thresholds:
            return self.thresholds[kind]
        return None if kind in self.action_by_kind else self.thresholds.get("")


class QuickLane(Protocol):
    """A quick shield's view of one text."""

    def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now. Nothing follows after `end`."""
        ...


class QuickShield(Protocol):
    """A check that needs no waiting. Immutable: what it remembers of a text is in the text's lane."""

    @property
    def rules(self) -> Rules:
        """What the policy says about it."""
        ...

    def lane(self) -> QuickLane:
        """A fresh view of a new text."""
        ...


class SlowLane(Protocol):
    """A slow shield's view of one text."""

    async def feed(self, text: str, *, end: bool) -> Progress:
        """Takes the next piece of the text and tells what is known now. Nothing follows after `end`.

        What it tells MUST NOT depend on how the text was cut. It is cancelled when its time is up or nobody waits
        any more. Raise `ShieldError` to give the failure a reason of its own.
        """
        ...


@runtime_checkable
class ListenedLane(SlowLane, Protocol):
    """A slow shield's view that comes to know more also while no text comes."""

    def listen(self, heard: Callable[[Progress], None]) -> None:
        """Has `heard` called on the loop, until the lane is left, with what is known beyond what `feed` told."""
        ...


class SlowShield(ABC):
    """A check that waits for something. Immutable, and shared by all streams that ask for the same."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    @abstractmethod
    def lane(self) -> AbstractAsyncContextManager[SlowLane]:
        """A fresh view of a new text, entered and left by the task that feeds it; what it holds is let go on leaving.

        A lane without anything to let go: `return lasting(MyLane(...))`.
        """


class ShieldError(Exception):
    """A shield could not do its work.

    Attributes:
        reason: A stable reason in capitals, told in the verdict; for example "SHIELD_UNREACHABLE".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Shield: TypeAlias = QuickShield | SlowShield


def lasting(lane: SlowLane) -> AbstractAsyncContextManager[SlowLane]:
    """The lane as a context manager that has nothing to do on leaving."""
    return nullcontext(lane)
