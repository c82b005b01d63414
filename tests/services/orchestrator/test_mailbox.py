"""What waits between two tasks: order, merging, bounds."""

import asyncio
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.orchestrator.mailbox import OVERHEAD, Mailbox
from services.orchestrator.merging import EVENTS, TEXTS, Events
from shieldmesh.v1 import chat_pb2, generation_pb2, policy_pb2, shield_pb2

TIMEOUT = 60.0
Texts = tuple[tuple[object, ...], str]


def delta(**fields: object) -> chat_pb2.ChatEvent:
    return chat_pb2.ChatEvent(delta=generation_pb2.Delta(**fields))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # one message of many forms


def call(arguments: str, index: int = 0, **fields: str) -> generation_pb2.ToolCallDelta:
    return generation_pb2.ToolCallDelta(index=index, arguments=arguments, **fields)


def outbox(limit: int = 1_000_000) -> Mailbox[chat_pb2.ChatEvent]:
    return Mailbox(EVENTS, limit)


async def take(mailbox: Mailbox[chat_pb2.ChatEvent]) -> list[chat_pb2.ChatEvent]:
    async with asyncio.timeout(TIMEOUT):
        return [event async for event in mailbox]


@st.composite
def events(draw: st.DrawFn) -> chat_pb2.ChatEvent:
    """Any delta of a turn, or a verdict."""
    text, choice = draw(st.text(min_size=1, max_size=3)), draw(st.integers(0, 1))
    match draw(st.sampled_from(["text", "reasoning", "call", "another call", "new call", "verdict"])):
        case "text":
            return delta(choice=choice, token_count=1, text=text)
        case "reasoning":
            return delta(choice=choice, token_count=1, reasoning=text)
        case "call":
            return delta(choice=choice, token_count=1, tool_call=call(text))
        case "another call":
            return delta(choice=choice, token_count=1, tool_call=call(text, index=1))
        case "new call":
            return delta(choice=choice, token_count=1, tool_call=call(text, index=2, id="id", name="name"))
        case _:
            return chat_pb2.ChatEvent(verdict=policy_pb2.Verdict(shield="pii"))


def pieces(sent: list[chat_pb2.ChatEvent]) -> list[Texts]:
    """What was said, in order, neighbours of the same text joined; a call's first fragment begins a new text."""
    said: list[Texts] = []
    for event in sent:
        one = event.delta
        if not event.HasField("delta"):
            said.append((("verdict",), ""))
            continue
        key = (one.choice, bool(one.text), bool(one.reasoning), one.HasField("tool_call"), one.tool_call.index)
        text = one.text + one.reasoning + one.tool_call.arguments
        if said and said[-1][0] == key and not one.tool_call.id:
            said[-1] = (key, said[-1][1] + text)
        else:
            said.append((key, text))
    return said


@settings(max_examples=100)
@given(st.lists(events(), max_size=12))
def test_merging_loses_mixes_and_reorders_nothing(sent: list[chat_pb2.ChatEvent]) -> None:
    """What waited comes out as the same texts in the same order, and as many tokens, in as few events as can be."""
    expected, tokens = pieces(sent), sum(event.delta.token_count for event in sent)

    async def through() -> list[chat_pb2.ChatEvent]:
        mailbox = outbox()
        for event in sent:
            mailbox.put(event)
        mailbox.close()
        return await take(mailbox)

    received = asyncio.run(through())
    assert pieces(received) == expected
    assert len(received) == len(expected)
    assert sum(event.delta.token_count for event in received) == tokens


async def test_an_idle_reader_gets_each_event_at_once() -> None:
    """Nothing waits to be merged: a reader that keeps up gets one event for each."""
    mailbox = outbox()
    reader = aiter(mailbox)
    for text in ("a", "b"):
        mailbox.put(delta(text=text))
        assert (await asyncio.wait_for(anext(reader), TIMEOUT)).delta.text == text


async def test_room_waits_for_the_reader() -> None:
    """Over the limit the writer waits, until the reader has taken enough; text, reasoning and arguments all count."""
    for fields in ({"text": "12345"}, {"reasoning": "12345"}, {"tool_call": call("12345")}):
        mailbox = outbox(limit=4)
        mailbox.put(delta(**fields))
        writer = asyncio.create_task(mailbox.room())
        await asyncio.sleep(0)
        assert not writer.done()
        await asyncio.wait_for(anext(aiter(mailbox)), TIMEOUT)
        await asyncio.wait_for(writer, TIMEOUT)


async def test_free_lifts_the_limit() -> None:
    """A writer that is to end waits for nobody."""
    mailbox = outbox(limit=1)
    mailbox.put(delta(text="12345"))
    mailbox.free()
    await asyncio.wait_for(mailbox.room(), TIMEOUT)
    mailbox.put(delta(text="12345"))
    await asyncio.wait_for(mailbox.room(), TIMEOUT)


async def test_texts_of_a_lane_become_one() -> None:
    """What the shields have not taken yet of one lane goes in one message, with its end."""
    mailbox = Mailbox(TEXTS, 1_000)
    for lane, offset, text, end in ((0, 0, "a", False), (0, 1, "b", True), (1, 0, "c", False)):
        mailbox.put(shield_pb2.InspectText(lane=lane, offset=offset, text=text, end=end))
    mailbox.close()
    async with asyncio.timeout(TIMEOUT):
        taken = [text async for text in mailbox]
    assert taken == [
        shield_pb2.InspectText(lane=0, offset=0, text="ab", end=True),
        shield_pb2.InspectText(lane=1, offset=0, text="c"),
    ]


async def test_what_waits_is_bounded_in_tokens_and_in_items() -> None:
    """Tokens with little text, and events without any, make the writer wait, too."""
    for event, limit in ((delta(token_count=1, text="x"), 4), (chat_pb2.ChatEvent(verdict=policy_pb2.Verdict()), 9)):
        mailbox = Mailbox(EVENTS, 9 * OVERHEAD, tokens=4)
        for _ in range(limit):
            mailbox.put(event)
            await asyncio.wait_for(mailbox.room(), TIMEOUT)
        mailbox.put(event)
        mailbox.put(event)
        writer = asyncio.create_task(mailbox.room())
        await asyncio.sleep(0)
        assert not writer.done()
        while not writer.done():
            await asyncio.wait_for(mailbox.take(), TIMEOUT)
            await asyncio.sleep(0)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=400))
@example([5] * 400)
@example([*range(400, 0, -1)])
def test_joining_copies_little(lengths: list[int]) -> None:
    """Few pieces are left of many that came, and each character was copied few times: a message keeps every copy."""
    copied = most = 0

    class Counting(Events):
        def join(self, items: Sequence[chat_pb2.ChatEvent]) -> chat_pb2.ChatEvent:
            nonlocal copied, most
            joined = super().join(items)
            most = max(most, len(items))
            copied += len(joined.delta.text)
            return joined

    async def through() -> str:
        mailbox = Mailbox(Counting(), 1_000_000)
        for length in lengths:
            mailbox.put(delta(text="x" * length))
        event = await mailbox.take()
        assert event is not None
        return event.delta.text

    total = sum(lengths)
    assert len(asyncio.run(through())) == total
    assert most <= 1 + total.bit_length()
    assert copied <= total * (2 + 2 * total.bit_length())
