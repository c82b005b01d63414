"""What a turn tells its reader, step by step: immutable, typed, and free of anything to do with the wire.

Times are seconds, texts are counted in Unicode code points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shieldmesh.errors import MeshError


class FinishReason(StrEnum):
    """Why a turn ended."""

    STOP = "stop"
    """The model ended by itself or met a stop text."""
    LENGTH = "length"
    """max_tokens or the context window was reached."""
    TOOL_CALLS = "tool_calls"
    """The model calls tools and waits for their results."""
    CONTENT_FILTER = "content_filter"
    """A shield blocked the input or the output; the verdict event before says which and why."""
    CANCELLED = "cancelled"
    """Someone other than the reader of this stream cancelled the turn."""
    UNKNOWN = "unknown"
    """The mesh is newer than this client and gave a reason it does not know."""


class Action(StrEnum):
    """What the policy does about a finding."""

    ALLOW = "allow"
    FLAG = "flag"
    REDACT = "redact"
    BLOCK = "block"
    UNKNOWN = "unknown"


class Direction(StrEnum):
    """The way a text travels: "input" from the client to the model, "output" back."""

    INPUT = "input"
    OUTPUT = "output"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Started:
    """The turn began."""

    sequence: int
    turn_id: str
    session_id: str
    profile: str
    profile_version: str
    model: str
    trace_id: str
    """32 hexadecimal digits; "" when tracing is off."""
    fallback_from: tuple[str, ...] = ()
    """The models that were asked before and failed before their first token."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a tool call; `id` and `name` come with its first one."""

    index: int
    id: str
    name: str
    arguments: str
    """New text of the arguments, JSON when put together."""


@dataclass(frozen=True, slots=True)
class Delta:
    """New output, cleared by every blocking shield. At most one of text, reasoning and tool_call is set."""

    sequence: int
    text: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    choice: int = 0
    token_count: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a shield saw, from `start` to `end` (exclusive) of its text; never the text itself."""

    kind: str
    start: int
    end: int
    score: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy does about findings of one shield."""

    sequence: int
    shield: str
    direction: Direction
    action: Action
    findings: tuple[Finding, ...] = ()
    text_index: int = 0
    """Which text the findings lie in: the message of the request, or the lane of the output."""
    error: str = ""
    """Why the shield failed, in capitals; "" when it did not."""


@dataclass(frozen=True, slots=True)
class Progress:
    """An interim result that a service published. Ignore names that you do not know."""

    sequence: int
    name: str
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the engine counted them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """How many of the prompt's came from a cache."""
    completion_tokens: int = 0
    """Those that a shield withheld included."""
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """The text that waited for one shield."""

    shield: str
    most_characters: int
    """At one time, in one text."""
    seconds: float
    """Summed over the texts of the turn."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the shields did to every character of the output: released + redacted + withheld = generated."""

    generated_characters: int = 0
    released_characters: int = 0
    redacted_characters: int = 0
    withheld_characters: int = 0
    most_held_characters: int = 0
    longest_hold: float = 0.0
    input_shields: tuple[str, ...] = ()
    output_shields: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    """Which shields held output; none that held nothing."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the turn's start until each phase was reached; None for one that did not happen."""

    input_cleared: float | None = None
    admitted: float | None = None
    first_token: float | None = None
    first_release: float | None = None
    total: float | None = None
    queued: float | None = None
    """How long the request waited for a place at the model, a part of the time until `admitted`."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The turn ended. Always the last event."""

    sequence: int
    reason: FinishReason
    usage: Usage
    receipt: Receipt
    timings: Timings


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection broke and stands again; what follows is what would have followed anyhow. No event of the turn."""

    after: int
    """The last sequence number that had come; 0 when none had."""
    attempts: int
    """Calls that it took."""
    error: MeshError
    """What broke it."""

    @property
    def sequence(self) -> int:
        """The same as `after`: this has no number of its own."""
        return self.after


Event = Started | Delta | Verdict | Progress | Finished | Reconnected
"""One step of a turn; `sequence` counts 1, 2, 3 … within it."""


@dataclass(frozen=True, slots=True)
class Result:
    """A whole turn."""

    text: str
    """The released text of the first choice."""
    reasoning: str
    started: Started
    verdicts: tuple[Verdict, ...]
    finished: Finished


class TurnState(StrEnum):
    """Whether a turn still runs, and how it ended."""

    RUNNING = "running"
    FINISHED = "finished"
    """It ended with `Finished`."""
    FAILED = "failed"
    """It ended with an error."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What there is of a turn at one moment."""

    state: TurnState
    events: tuple[Event, ...]
    """What was released so far, neighbouring deltas of one text put together."""
    error: MeshError | None = None
    """Why it failed."""
    partial: bool = False
    """Whether more was released than fits into one answer: `resume` after `sequence` gives the rest."""

    @property
    def sequence(self) -> int:
        """The last sequence number so far: `resume` goes on after it."""
        return self.events[-1].sequence if self.events else 0

    @property
    def text(self) -> str:
        """The released text of the first choice, so far."""
        return "".join(event.text for event in self.events if isinstance(event, Delta) and event.choice == 0)
