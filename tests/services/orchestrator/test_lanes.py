"""Which text a delta belongs to, on its way to the shields and back."""

import pytest

from services.orchestrator.lanes import Lanes
from shieldmesh.errors import InternalError
from shieldmesh.v1 import generation_pb2, policy_pb2, shield_pb2

Delta = generation_pb2.Delta


def call(arguments: str, index: int = 0, name: str = "") -> generation_pb2.ToolCallDelta:
    return generation_pb2.ToolCallDelta(index=index, id=name and f"id-{name}", name=name, arguments=arguments)


def test_every_text_has_a_lane_of_its_own() -> None:
    """Choices, reasoning and tool calls are kept apart, and each lane's offsets count its own text."""
    lanes = Lanes()
    written = [
        Delta(text="ab"),
        Delta(reasoning="cde"),
        Delta(choice=1, text="f"),
        Delta(tool_call=call("g", name="look")),
        Delta(tool_call=call("h", index=1, name="find")),
        Delta(text="ij"),
        Delta(tool_call=call("kl")),
    ]
    shown = [lanes.add(delta, 0.0) for delta in written]
    assert [(text.lane, text.offset, text.text) for text in shown] == [
        (0, 0, "ab"),
        (1, 0, "cde"),
        (2, 0, "f"),
        (3, 0, "g"),
        (4, 0, "h"),
        (0, 2, "ij"),
        (3, 1, "kl"),
    ]
    assert [(end.lane, end.offset, end.end) for end in lanes.endings()] == [
        (0, 4, True),
        (1, 3, True),
        (2, 1, True),
        (3, 3, True),
        (4, 1, True),
    ]


def test_what_is_cleared_comes_back_as_what_it_was() -> None:
    """Text, reasoning and a call's arguments leave as such, edited; a call's id and name leave once, with the first."""
    lanes = Lanes()
    for delta in (
        Delta(text="secret", token_count=1),
        Delta(choice=1, reasoning="why", token_count=2),
        Delta(tool_call=call('{"to": "me', name="mail"), token_count=3),
        Delta(tool_call=call('"}'), token_count=1),
    ):
        lanes.add(delta, 0.0)
    edit = shield_pb2.Edit(start=0, end=6, replacement="[X]")
    out = [
        lanes.clear(shield_pb2.Clearance(lane=0, watermark=6, edits=[edit]), 0.0),
        lanes.clear(shield_pb2.Clearance(lane=1, watermark=3), 0.0),
        lanes.clear(shield_pb2.Clearance(lane=2, watermark=10), 0.0),
        lanes.clear(shield_pb2.Clearance(lane=2, watermark=12), 0.0),
    ]
    assert out == [
        Delta(text="[X]", token_count=1),
        Delta(choice=1, reasoning="why", token_count=2),
        Delta(tool_call=call('{"to": "me', name="mail"), token_count=3),
        Delta(tool_call=call('"}'), token_count=1),
    ]
    assert lanes.held() == 0


def test_a_call_without_arguments_is_told() -> None:
    """A call whose arguments are empty leaves with its id and name when its lane is cleared."""
    lanes = Lanes()
    lanes.add(Delta(tool_call=call("", name="now")), 0.0)
    assert lanes.clear(shield_pb2.Clearance(), 0.0) == Delta(tool_call=call("", name="now"))
    assert lanes.clear(shield_pb2.Clearance(), 0.0) is None


def test_a_clearance_of_nothing_sends_nothing() -> None:
    """As long as the shields hold the text there is no delta; an empty one would tell of it."""
    lanes = Lanes()
    lanes.add(Delta(text="held"), 0.0)
    assert lanes.clear(shield_pb2.Clearance(lane=0, watermark=0, seen=4), 0.0) is None
    assert lanes.held() == 4


def test_a_lane_that_does_not_exist() -> None:
    """A clearance of another text than was shown is an error of the shields."""
    with pytest.raises(InternalError) as failure:
        Lanes().clear(shield_pb2.Clearance(lane=0, watermark=0), 0.0)
    assert failure.value.reason == "SHIELD_BROKEN"


def test_shields_are_told_what_a_lane_is() -> None:
    """The first text of a lane says whether it is content, reasoning or the arguments of a tool call."""
    lanes = Lanes()
    deltas = [
        generation_pb2.Delta(reasoning="Hm"),
        generation_pb2.Delta(text="Yes"),
        generation_pb2.Delta(tool_call=generation_pb2.ToolCallDelta(index=0, arguments="{")),
        generation_pb2.Delta(text="!"),
    ]
    assert [lanes.add(delta, 0.0).part for delta in deltas] == [
        policy_pb2.TEXT_PART_REASONING,
        policy_pb2.TEXT_PART_CONTENT,
        policy_pb2.TEXT_PART_TOOL_ARGUMENTS,
        policy_pb2.TEXT_PART_UNSPECIFIED,
    ]
