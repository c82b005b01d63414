"""Requests are judged before anything acts on them."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1.generation_pb2 import Sampling
from shieldmesh.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_TOOL,
    ROLE_USER,
    ContentPart,
    Message,
    ResponseFormat,
    Tool,
    ToolCall,
)
from shieldmesh.validation import check_messages, check_response_format, check_sampling, check_tools

TEXT = ContentPart(text="secret")
CALL = ToolCall(id="1", name="f", arguments="{}")


def test_a_whole_conversation_is_accepted() -> None:
    """Every role in its place, an assistant that only calls tools among them."""
    check_messages(
        [
            Message(role=ROLE_USER, parts=[TEXT]),
            Message(role=ROLE_ASSISTANT, tool_calls=[CALL]),
            Message(role=ROLE_TOOL, parts=[TEXT], tool_call_id="1"),
        ],
        max_characters=14,
    )


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("turn[1].role", Message(parts=[TEXT])),
        ("turn[1].parts", Message(role=ROLE_USER)),
        ("turn[1].parts", Message(role=ROLE_ASSISTANT)),
        ("turn[1].parts[0]", Message(role=ROLE_USER, parts=[ContentPart()])),
        ("turn[1].tool_call_id", Message(role=ROLE_TOOL, parts=[TEXT])),
        ("turn[1].tool_call_id", Message(role=ROLE_USER, parts=[TEXT], tool_call_id="1")),
        ("turn[1].tool_calls", Message(role=ROLE_USER, parts=[TEXT], tool_calls=[CALL])),
        ("turn[1].tool_calls[0].id", Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(name="f")])),
        ("turn[1].tool_calls[0].name", Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(id="1", name="a b")])),
        ("turn", Message(role=ROLE_USER, parts=[TEXT, TEXT])),
        ("turn", Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(id="1", name="f", arguments="x" * 13)])),
    ],
)
def test_a_wrong_message_is_named_and_not_quoted(field: str, message: Message) -> None:
    """The error has the path of the field under the caller's name for it, and no text of the user."""
    error = refused(
        lambda: check_messages([Message(role=ROLE_USER, parts=[TEXT]), message], max_characters=17, field="turn")
    )
    assert error.field == field
    assert "secret" not in str(error)


def test_too_much_text_has_a_reason_of_its_own() -> None:
    """A client can tell "too long" from "wrong"; exactly the limit is allowed."""
    messages = [Message(role=ROLE_USER, parts=[TEXT])]
    check_messages(messages, max_characters=6)
    assert refused(lambda: check_messages(messages, max_characters=5)).reason == "TEXT_TOO_LONG"
    assert refused(lambda: check_messages([], max_characters=5)).field == "messages"


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0, top_p=1, top_k=0, frequency_penalty=-2, presence_penalty=2, max_tokens=1, seed=0),
        Sampling(temperature=2, stop=["x"] * 16),
    ],
)
def test_sampling_at_its_limits_is_accepted(sampling: Sampling) -> None:
    """The ranges of the contract include their ends."""
    check_sampling(sampling)


@pytest.mark.parametrize(
    ("field", "sampling"),
    [
        ("temperature", Sampling(temperature=-0.1)),
        ("temperature", Sampling(temperature=float("nan"))),
        ("top_p", Sampling(top_p=0)),
        ("top_p", Sampling(top_p=1.01)),
        ("frequency_penalty", Sampling(frequency_penalty=2.1)),
        ("presence_penalty", Sampling(presence_penalty=float("-inf"))),
        ("max_tokens", Sampling(max_tokens=0)),
        ("stop", Sampling(stop=["x"] * 17)),
        ("stop[1]", Sampling(stop=["x", ""])),
    ],
)
def test_sampling_out_of_range_is_named(field: str, sampling: Sampling) -> None:
    """Also values that are no numbers."""
    assert refused(lambda: check_sampling(sampling)).field == f"sampling.{field}"


@settings(max_examples=50)
@given(st.floats())
def test_any_temperature_is_judged_by_its_range(temperature: float) -> None:
    """Whatever float comes, it is accepted exactly when it lies in 0 to 2."""
    try:
        check_sampling(Sampling(temperature=temperature))
        accepted = True
    except InvalidArgumentError:
        accepted = False
    assert accepted == (0 <= temperature <= 2)


@pytest.mark.parametrize(
    ("field", "tools"),
    [
        ("tools[0].name", [Tool(name="")]),
        ("tools[0].name", [Tool(name="x" * 65)]),
        ("tools[1].name", [Tool(name="f"), Tool(name="f")]),
        ("tools[0].parameters_json_schema", [Tool(name="f", parameters_json_schema="[]")]),
        ("tools[0].parameters_json_schema", [Tool(name="f", parameters_json_schema='{"a": NaN}')]),
        ("tools[0].parameters_json_schema", [Tool(name="f", parameters_json_schema="[" * 100_000)]),
    ],
)
def test_wrong_tools_are_named(field: str, tools: list[Tool]) -> None:
    """Names are well-formed and distinct, parameters are JSON objects."""
    assert refused(lambda: check_tools(tools)).field == field


def test_a_response_format_is_free_or_a_schema() -> None:
    """None set and an object pass; anything else is refused."""
    check_response_format(ResponseFormat())
    check_response_format(ResponseFormat(json_schema='{"type": "object"}'))
    error = refused(lambda: check_response_format(ResponseFormat(json_schema="")))
    assert error.field == "response_format.json_schema"


def refused(check: Callable[[], None]) -> InvalidArgumentError:
    with pytest.raises(InvalidArgumentError) as caught:
        check()
    return caught.value
