"""What a model is shown of a conversation."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.sessions.history import Messages, estimate, first_that_fits, recalled
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import message_pb2
from shieldmesh.v1.message_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER

LOTS = 10**9
IDS = st.sampled_from(["a", "b"])


def user(text: str) -> message_pb2.Message:
    return message_pb2.Message(role=ROLE_USER, parts=[message_pb2.ContentPart(text=text)])


def result(call: str, text: str = "42") -> message_pb2.Message:
    return message_pb2.Message(role=ROLE_TOOL, parts=[message_pb2.ContentPart(text=text)], tool_call_id=call)


def answer(text: str = "", *calls: str) -> message_pb2.Message:
    return message_pb2.Message(
        role=ROLE_ASSISTANT,
        parts=[message_pb2.ContentPart(text=text)] if text else [],
        tool_calls=[message_pb2.ToolCall(id=call, name="f", arguments="{}") for call in calls],
    )


def turn(*messages: message_pb2.Message) -> Messages:
    return messages


@st.composite
def turns(draw: st.DrawFn) -> list[Messages]:
    """Turns in any order, as turns at the same time leave them: calls and results may have lost one another."""
    made: list[Messages] = []
    for number in range(draw(st.integers(0, 6))):
        begin = draw(st.lists(st.builds(result, IDS), max_size=2))
        only_results = draw(st.booleans())
        said = [] if begin and only_results else [user(f"question {number} " + "x" * draw(st.integers(0, 40)))]
        calls = draw(st.lists(IDS, unique=True, max_size=2))
        text = draw(st.text("yes ", max_size=40)) or ("" if calls else "no")
        made.append([*begin, *said, answer(text, *calls)])
    return made


@given(turns(), st.integers(0, 150), st.integers(0, 300))
def test_what_is_shown_fits_is_in_order_and_pairs_up(kept: list[Messages], tokens: int, characters: int) -> None:
    """Never over either bound; whole turns from the end, in order; each result behind its call, each call answered."""
    new = [user("new")]
    shown = recalled(kept, new, tokens, characters)
    assert estimate(shown) <= tokens
    assert sum(len(part.text) for message in shown for part in message.parts) <= characters
    first = first_that_fits(kept, tokens, characters)
    everything = [message for each in kept[first:] for message in each]
    places = iter(everything)
    # Each that is shown is one of those, in their order; some are left out, and some without their calls.
    for message in shown:
        assert any(_same(message, each) for each in places)
    pending: dict[str, bool] = {}
    for message in [*shown, *new]:
        if message.role == ROLE_TOOL:
            assert pending.get(message.tool_call_id) is False
            pending[message.tool_call_id] = True
        else:
            assert all(pending.values())
            pending = {call.id: False for call in message.tool_calls}
            assert message.parts or message.tool_calls


def _same(shown: message_pb2.Message, kept: message_pb2.Message) -> bool:
    return (shown.role, list(shown.parts), shown.tool_call_id) == (kept.role, list(kept.parts), kept.tool_call_id)


@given(turns(), st.integers(0, 200))
def test_the_oldest_whole_turns_go_first(kept: list[Messages], tokens: int) -> None:
    """What stays is a suffix that fits and begins with no result of a tool; a longer one does not fit, or begins so."""
    first = first_that_fits(kept, tokens)
    stays = [message for each in kept[first:] for message in each]
    assert estimate(stays) <= tokens
    assert not stays or stays[0].role != ROLE_TOOL
    for longer in range(first):
        more = [message for each in kept[longer:] for message in each]
        assert estimate(more) > tokens or more[0].role == ROLE_TOOL


def test_results_go_on_with_the_calls_that_are_kept() -> None:
    """New results stand behind the calls of the newest turn; several rounds of calls stay together."""
    kept = [
        turn(user("one"), answer("1")),
        turn(user("two"), answer("", "a", "b")),
        turn(result("a"), result("b"), answer("", "c")),
    ]
    new = [result("c")]
    assert recalled(kept, new, LOTS, LOTS) == [message for each in kept for message in each]
    rounds = [message for each in kept[1:] for message in each]
    assert recalled(kept, new, estimate(rounds), LOTS) == rounds


@pytest.mark.parametrize("kept", [[], [turn(user("one"), answer("1"))], [turn(user("one"), answer("", "a"))]])
def test_a_result_that_answers_nothing_is_refused(kept: Sequence[Messages]) -> None:
    """A new message cannot answer a call that was trimmed, never was, or was answered by another."""
    with pytest.raises(InvalidArgumentError) as refused:
        recalled(kept, [result("z")], LOTS, LOTS)
    assert refused.value.field == "messages.tool_call_id"
    with pytest.raises(InvalidArgumentError):
        recalled(kept, [result("a"), result("a")], LOTS, LOTS)


def test_calls_that_nobody_answers_are_left_out() -> None:
    """Who goes on without answering a call has the model see what it said, and not the call."""
    kept = [turn(user("one"), answer("let me look", "a", "b"))]
    assert recalled(kept, [user("never mind")], LOTS, LOTS) == [user("one"), answer("let me look")]
    assert recalled(kept, [result("b"), user("that is it")], LOTS, LOTS) == [user("one"), answer("let me look", "b")]
    assert recalled([turn(user("one"), answer("", "a"))], [user("never mind")], LOTS, LOTS) == [user("one")]
    assert kept[0][1].tool_calls, "what is kept is not touched"


def test_the_estimate_is_rather_too_high() -> None:
    """Text counts by its bytes, and every message a little; calls and their arguments count."""
    assert estimate([]) == 0
    assert estimate([user("")]) == 4
    assert estimate([user("x" * 300)]) == 104
    assert estimate([user("日本" * 50)]) == 104
    assert estimate([answer("", "a")]) > 4
