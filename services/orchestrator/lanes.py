"""The texts of one turn: which delta belongs to which lane, and back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from shieldmesh.errors import InternalError
from shieldmesh.v1 import generation_pb2, policy_pb2, shield_pb2

from .holds import Holds
from .release import Edit, Lane, Release

Part = Literal["text", "reasoning", "tool_call"]

_PARTS: Final["Mapping[Part, policy_pb2.TextPart.ValueType]"] = {
    "text": policy_pb2.TEXT_PART_CONTENT,
    "reasoning": policy_pb2.TEXT_PART_REASONING,
    "tool_call": policy_pb2.TEXT_PART_TOOL_ARGUMENTS,
}


@dataclass(slots=True)
class _Track:
    """A lane and what its text is."""

    choice: int
    part: Part
    call: generation_pb2.ToolCallDelta
    """For a tool call: its index, and until they are sent its id and name."""
    lane: Lane = field(default_factory=Lane)
    judged: int = 0
    """Up to where the shields have made up their minds, where text does not wait for them."""


class Lanes:
    """All lanes of a turn, numbered in the order in which their first text came.

    Attributes:
        holds: Which shields held text.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._numbers: dict[tuple[int, Part, int], int] = {}
        self.holds = Holds()

    def add(self, delta: generation_pb2.Delta, now: float) -> shield_pb2.InspectText:
        """Takes what the model wrote; what the shields are to see of it."""
        part: Part
        # 1. a piece of a tool call, 2. reasoning, 3. text
        if delta.HasField("tool_call"):
            part, text, index = "tool_call", delta.tool_call.arguments, delta.tool_call.index
        elif text := delta.reasoning:
            part, index = "reasoning", 0
        else:
            part, text, index = "text", delta.text, 0
        number = self._numbers.get((delta.choice, part, index))
        if number is None:
            number = self._begin(delta.choice, part, delta.tool_call)
        offset = self._tracks[number].lane.add(text, delta.token_count, now)
        if offset:
            return shield_pb2.InspectText(lane=number, offset=offset, text=text)
        return shield_pb2.InspectText(lane=number, text=text, part=_PARTS[part])

    def endings(self) -> Iterator[shield_pb2.InspectText]:
        """What tells the shields that each lane is complete; of a model that wrote nothing they see an empty text."""
        if not self._tracks:
            self._begin(0, "text", generation_pb2.ToolCallDelta())
        for number, track in enumerate(self._tracks):
            yield shield_pb2.InspectText(lane=number, offset=track.lane.written, end=True)

    def clear(self, clearance: shield_pb2.Clearance, now: float) -> generation_pb2.Delta | None:
        """What leaves on a clearance; None when it is nothing.

        Raises:
            InternalError: the clearance contradicts the text; releasing on it could leak.
        """
        track = self._track(clearance.lane)
        watermark, seen = clearance.watermark, clearance.seen
        edits = [Edit(edit.start, edit.end, edit.replacement) for edit in clearance.edits] if clearance.edits else ()
        release = track.lane.clear(watermark, edits, now)
        track.lane.note_hold(seen)
        self.holds.note(clearance.lane, clearance.holding, seen - watermark, now)
        return _delta(track, release)

    def clear_all(self, number: int, now: float) -> generation_pb2.Delta | None:
        """What leaves of a lane that no shield guards."""
        track = self._tracks[number]
        return _delta(track, track.lane.clear(track.lane.written, (), now))

    def note_judged(self, clearance: shield_pb2.Clearance) -> None:
        """Notes up to where the shields would have cleared a lane that does not wait for them.

        Raises:
            InternalError: the lane does not exist.
        """
        self._track(clearance.lane).judged = clearance.watermark

    def unjudged(self) -> int:
        """Characters about which the shields have not made up their minds."""
        return sum(track.lane.written - track.judged for track in self._tracks)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tracks)

    def all(self) -> Sequence[Lane]:
        """The lanes, for the account."""
        return [track.lane for track in self._tracks]

    def held(self) -> int:
        """Characters that wait for a shield."""
        return sum(track.lane.held for track in self._tracks)

    def _track(self, number: int) -> _Track:
        if number >= len(self._tracks):
            raise InternalError(
                f"the shield service cleared lane {number}, which does not exist", reason="SHIELD_BROKEN"
            )
        return self._tracks[number]

    def _begin(self, choice: int, part: Part, begun: generation_pb2.ToolCallDelta) -> int:
        """The number of a lane that is new."""
        call = generation_pb2.ToolCallDelta()
        call.CopyFrom(begun)
        number = self._numbers[choice, part, call.index] = len(self._tracks)
        self._tracks.append(_Track(choice, part, call))
        return number


def _delta(track: _Track, release: Release) -> generation_pb2.Delta | None:
    if track.part == "tool_call":
        if not release.text and not track.call.id:
            return None
        call = generation_pb2.ToolCallDelta(
            index=track.call.index, id=track.call.id, name=track.call.name, arguments=release.text
        )
        track.call.id = track.call.name = ""
        return generation_pb2.Delta(choice=track.choice, tool_call=call, token_count=release.tokens)
    if not release.text:
        return None
    if track.part == "reasoning":
        return generation_pb2.Delta(choice=track.choice, reasoning=release.text, token_count=release.tokens)
    return generation_pb2.Delta(choice=track.choice, text=release.text, token_count=release.tokens)
