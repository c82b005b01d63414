"""Conversations on their way to the contract and back."""

import pytest

import shieldmesh
from shieldmesh.client.conversation import (
    message_from_wire,
    message_to_wire,
    sampling_from_wire,
    sampling_to_wire,
    tool_from_wire,
    tool_to_wire,
)


@pytest.mark.parametrize(
    "message",
    [
        shieldmesh.Message("user", "hi"),
        shieldmesh.Message("user", ""),
        shieldmesh.Message("assistant", "", (shieldmesh.ToolCall("c-1", "weather", '{"at": "Oslo"}'),)),
        shieldmesh.Message("tool", "rain", tool_call_id="c-1"),
    ],
)
def test_a_message_comes_back_as_it_went(message: shieldmesh.Message) -> None:
    """Role, text, tool calls and the id of a result are all said."""
    assert message_from_wire(message_to_wire(message, 0)) == message


def test_a_sampling_comes_back_with_what_it_sets() -> None:
    """What is not set stays so; 0 is a value."""
    sampling = shieldmesh.Sampling(temperature=0.0, max_tokens=5, stop=("a", "b"))
    wire = sampling_to_wire(sampling)
    assert wire is not None
    assert sampling_from_wire(wire) == sampling


def test_a_tool_may_say_its_schema_as_an_object() -> None:
    """An object becomes JSON text; what JSON cannot say is refused with its place."""
    wire = tool_to_wire(shieldmesh.Tool("weather", parameters={"type": "object"}), 0)
    assert tool_from_wire(wire) == shieldmesh.Tool("weather", "", '{"type": "object"}')
    with pytest.raises(shieldmesh.InvalidArgumentError) as caught:
        tool_to_wire(shieldmesh.Tool("weather", parameters={"type": object()}), 2)
    assert caught.value.field == "tools[2].parameters_json_schema"
