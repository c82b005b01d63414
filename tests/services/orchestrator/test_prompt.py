"""What the model is asked, and what of it the input shields see."""

from typing import Any

import pytest

from services.orchestrator.prompt import Prompt
from shieldmesh.errors import InternalError, InvalidArgumentError
from shieldmesh.v1 import chat_pb2, generation_pb2, message_pb2, shield_pb2
from tests.services.orchestrator.serving import message, profile


def conversation() -> list[message_pb2.Message]:
    lookup = message_pb2.ToolCall(id="1", name="look", arguments='{"who": "ann"}')
    return [
        message("I am ", "Ann"),
        message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, tool_calls=[lookup]),
        message("found", role=message_pb2.ROLE_TOOL, tool_call_id="1"),
    ]


def prompt(*messages: message_pb2.Message, asked: generation_pb2.Sampling | None = None, **policy: Any) -> Prompt:
    return Prompt(profile(**policy), chat_pb2.ChatRequest(messages=messages, sampling=asked))


def test_shields_see_every_message_and_the_arguments_of_tool_calls() -> None:
    """One text for each message, its parts joined, then one for each tool call."""
    assert prompt(*conversation()).texts() == ["I am Ann", "", "found", '{"who": "ann"}']


def test_the_model_gets_what_the_shields_made_of_it() -> None:
    """Edits replace their spans in the right texts, whatever their order, and the system prompt comes first."""
    asked = prompt(*conversation(), prompt="Be kind.")
    asked.apply(
        [
            shield_pb2.Edit(text_index=0, start=5, end=8, replacement="[PERSON]"),
            shield_pb2.Edit(text_index=0, start=0, end=1, replacement="[WHO]"),
            shield_pb2.Edit(text_index=3, start=9, end=12, replacement="[PERSON]"),
        ]
    )
    system, first, second, third = asked.opening().messages
    assert (system.role, system.parts[0].text) == (message_pb2.ROLE_SYSTEM, "Be kind.")
    assert [part.text for part in first.parts] == ["[WHO] am [PERSON]"]
    assert second.tool_calls[0].arguments == '{"who": "[PERSON]"}'
    assert third.parts[0].text == "found"


@pytest.mark.parametrize(
    "edits",
    [
        [shield_pb2.Edit(text_index=4, start=0, end=1, replacement="")],
        [shield_pb2.Edit(text_index=0, start=0, end=9, replacement="")],
        [
            shield_pb2.Edit(text_index=0, start=0, end=6, replacement=""),
            shield_pb2.Edit(text_index=0, start=5, end=7, replacement="longer"),
        ],
    ],
    ids=["another text", "beyond the text", "overlapping"],
)
def test_edits_that_fit_no_text_are_an_error(edits: list[shield_pb2.Edit]) -> None:
    """What the shields could not have meant is not guessed at: part of what they redact could stay."""
    with pytest.raises(InternalError) as failure:
        prompt(*conversation()).apply(edits)
    assert failure.value.reason == "SHIELD_BROKEN"


def test_an_override_that_the_profile_forbids() -> None:
    """It is refused with its name and those that are allowed."""
    with pytest.raises(InvalidArgumentError) as failure:
        prompt(message("hi"), asked=generation_pb2.Sampling(seed=1), allow_overrides=["top_k", "stop"])
    assert (failure.value.field, failure.value.reason) == ("sampling.seed", "OVERRIDE_NOT_ALLOWED")
    assert "top_k, stop" in failure.value.message


def test_overrides_replace_what_the_profile_says() -> None:
    """What is set wins, stop texts as a whole; the rest stays the profile's."""
    asked = prompt(
        message("hi"),
        asked=generation_pb2.Sampling(temperature=0.0, stop=["mine"]),
        allow_overrides=["temperature", "stop"],
        sampling={"temperature": 0.5, "top_k": 7, "stop": ["yours"]},
    )
    assert asked.opening().sampling == generation_pb2.Sampling(temperature=0.0, top_k=7, stop=["mine"])


def test_an_override_is_for_one_turn() -> None:
    """The next caller of the same profile gets the profile's."""
    given = profile(allow_overrides=["top_k"], sampling={"top_k": 7})
    for top_k in (1, None):
        request = chat_pb2.ChatRequest(messages=[message("hi")], sampling=generation_pb2.Sampling(top_k=top_k))
        assert Prompt(given, request).opening().sampling.top_k == (top_k or 7)


def test_options_of_the_model_come_from_the_profile() -> None:
    """They reach the backend as the profile gives them."""
    options = prompt(message("hi"), model_options={"pace": 5.0, "cut": "words"}).opening().options
    assert dict(options) == {"pace": 5.0, "cut": "words"}


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([message("x" * 11)], "messages"),
        ([message("hi", role=message_pb2.ROLE_UNSPECIFIED)], "messages[0].role"),
    ],
    ids=["none", "too long", "no role"],
)
def test_a_wrong_conversation(messages: list[message_pb2.Message], field: str) -> None:
    """It is refused with the field that is wrong, before any service is called."""
    with pytest.raises(InvalidArgumentError) as failure:
        prompt(*messages, limits={"input_characters": 10})
    assert failure.value.field == field


TEMPLATE = {"template": "You help {{ who }} with {{ what }}.", "variables": {"who": {}, "what": {"default": "all"}}}


def test_variables_are_shielded_and_what_is_left_of_them_is_in_the_prompt() -> None:
    """Shields see them behind the arguments of tool calls, in the order of their declaration."""
    request = chat_pb2.ChatRequest(messages=conversation(), variables={"who": "Ann"})
    asked = Prompt(profile(prompt=TEMPLATE), request)
    assert asked.texts()[3:] == ['{"who": "ann"}', "Ann", "all"]
    asked.apply([shield_pb2.Edit(text_index=4, start=0, end=3, replacement="[PERSON]")])
    assert asked.opening().messages[0].parts[0].text == "You help [PERSON] with all."


def test_variables_without_a_template() -> None:
    """A profile whose prompt is a text takes none."""
    with pytest.raises(InvalidArgumentError) as failure:
        Prompt(profile(prompt="Be kind."), chat_pb2.ChatRequest(messages=[message("hi")], variables={"who": "Ann"}))
    assert failure.value.field == "variables"


@pytest.mark.parametrize(
    ("policy", "asked", "tokens"),
    [
        ({}, None, 10),
        ({"sampling": {"max_tokens": 5}}, None, 5),
        ({"sampling": {"max_tokens": 50}}, None, 10),
        ({"allow_overrides": ["max_tokens"]}, 7, 7),
        ({"allow_overrides": ["max_tokens"]}, 10, 10),
    ],
)
def test_an_answer_has_no_more_tokens_than_the_profile_allows(
    policy: dict[str, Any], asked: int | None, tokens: int
) -> None:
    """The least of the limit and what profile or caller say holds."""
    sampling = generation_pb2.Sampling(max_tokens=asked)
    told = prompt(message("hi"), asked=sampling, limits={"output_tokens": 10}, **policy)
    assert told.opening().sampling.max_tokens == tokens


def test_more_tokens_than_the_profile_allows() -> None:
    """Whoever asks for more hears the limit."""
    with pytest.raises(InvalidArgumentError) as failure:
        prompt(
            message("hi"),
            asked=generation_pb2.Sampling(max_tokens=11),
            limits={"output_tokens": 10},
            allow_overrides=["max_tokens"],
        )
    assert failure.value.field == "sampling.max_tokens"
    assert "at most 10 tokens" in failure.value.message
