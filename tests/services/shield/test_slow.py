"""Shields that take their time: what leaves is the same however fast they are, and nothing of them stays behind."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.catalogue import Catalogue
from services.shield.follower import WINDOW
from services.shield.inspection import Inspection
from services.shield.ledger import Ledger, Release
from services.shield.servicer import ShieldServicer
from services.shield.shield import Action, Finding, Kind, Progress, Rules, Shield, ShieldError, Threshold
from services.shield.spans import ShieldSpans
from shieldmesh.v1 import policy_pb2, shield_pb2

from .examples import cut
from .serving import spec
from .slow import Finder, hear
from .test_inspection import CATALOGUE

FLAG, REDACT, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK
TEXTS = st.lists(st.sampled_from(["fox. ", "a hen. ", "fox owl ", "cat", ". ", "fo", "x owl", ""]), max_size=10).map(
    "".join
)
CUTS = st.lists(st.integers(0, 60), max_size=8)
ACTION: st.SearchStrategy[Action] = st.sampled_from([FLAG, REDACT, BLOCK])


def rules(name: str, action: Action = BLOCK, kind: Kind = "window", **fields: Any) -> Rules:  # fields of Rules
    """Rules with a timeout that no test comes near."""
    given: dict[str, Any] = {"action_by_kind": dict[str, Action](), "fails_open": False, "timeout": 60.0} | fields
    return Rules(name, action, kind=kind, **given)


def pauses(seed: int) -> Callable[[], Awaitable[None]]:
    """A pause of as many turns of the loop as chance has it."""
    chance = random.Random(seed)

    async def pause() -> None:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)

    return pause


async def never() -> None:
    """A pause without end."""
    await asyncio.Event().wait()


async def words(word: str, action: Action) -> Shield:
    """A match shield for a word."""
    (shield,) = await CATALOGUE.shields([spec("deny_list", action=action, options={"terms": [word]})])
    return shield


@settings(max_examples=300)
@given(TEXTS, CUTS, st.tuples(ACTION, ACTION, ACTION, ACTION), st.integers(0, 2**32))
async def test_what_leaves_depends_neither_on_the_cut_nor_on_who_is_faster(
    text: str, cuts: list[int], actions: tuple[Action, Action, Action, Action], seed: int
) -> None:
    """Text, edits, blocks, and the verdicts of all that hold are those of the whole text, for any timing."""

    async def shields(seed: int) -> list[Shield]:
        chance = [pauses(seed + number) for number in range(3)]
        return [
            await words("fox", actions[0]),
            Finder(rules("owls", actions[1]), "owl", chance[0]),
            Finder(rules("pairs", actions[2]), "x owl", chance[1]),
            Finder(rules("cats", actions[3], "whole"), "cat", chance[2]),
        ]

    whole = await hear(await shields(0), [text])
    pieces = await hear(await shields(seed), cut(text, cuts), pause=pauses(seed + 7))
    assert (pieces.text, pieces.blocked) == (whole.text, whole.blocked)
    named = zip(["owls", "pairs", "cats"], actions[1:], strict=True)
    holding = {"deny_list"} | {name for name, action in named if action != FLAG}
    assert sorted(v for v in pieces.verdicts if v[0] in holding) == sorted(v for v in whole.verdicts if v[0] in holding)
    if not whole.blocked:
        assert sorted(pieces.verdicts) == sorted(whole.verdicts)


async def test_nothing_waits_for_a_slow_shield_that_only_flags() -> None:
    """Text leaves past a shield that never answers when it could not change the text anyway."""
    mute = Finder(rules("mute", FLAG), "owl", never)
    with ShieldSpans([mute]) as spans:
        async with Inspection([mute], spans) as inspection:
            assert (await inspection.feed("an owl", end=False)).watermark == 6
            assert inspection.holding() == []


async def test_what_is_found_late_is_told_late() -> None:
    """The verdict of a shield that only flags comes before the stream ends, after the text has left."""
    answering = asyncio.Event()
    slow = Finder(rules("slow", FLAG), "owl", answering.wait)  # type: ignore[arg-type]  # its result is not looked at

    def when(clearance: shield_pb2.Clearance) -> None:
        if clearance.watermark == 7:
            answering.set()

    heard = await hear([slow], ["an owl."], when=when)
    assert (heard.text, heard.verdicts) == ("an owl.", [("slow", FLAG, "word")])


async def test_a_whole_shield_holds_everything_until_the_end() -> None:
    """Nothing leaves before it has seen all, and a block by another means that nothing leaves at all."""
    whole = Finder(rules("whole", REDACT, "whole"), "cat", pauses(1))
    with ShieldSpans([whole]) as spans:
        async with Inspection([whole], spans) as inspection:
            assert (await inspection.feed("a long text. ", end=False)).watermark == 0
            assert inspection.holding() == ["whole"]
    assert (await hear([whole], ["a long text. ", "about a cat"])).text == "[WHOLE]"
    blocked = await hear([whole, await words("long", BLOCK)], ["a long text. ", "about a dog"])
    assert (blocked.text, blocked.verdicts) == ("", [("deny_list", BLOCK, "denied_term")])


@pytest.mark.parametrize("action", [BLOCK, REDACT, FLAG])
async def test_an_empty_text_can_be_found_wrong(action: Action) -> None:
    """A whole shield that finds fault with an empty text is heard; there is nothing to replace."""
    heard = await hear([Finder(rules("whole", action, "whole"), "", pauses(2))], [])
    assert (heard.text, heard.verdicts) == ("", [("whole", action, "whole")])


@pytest.mark.parametrize("fails_open", [False, True])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("a secret"), "SHIELD_FAILED"),
        (ShieldError("SHIELD_UNREACHABLE"), "SHIELD_UNREACHABLE"),
        (TimeoutError(), "SHIELD_TIMEOUT"),
    ],
)
async def test_a_failure_counts_as_the_policy_says(error: Exception, reason: str, *, fails_open: bool) -> None:
    """Closed, the failure blocks; open, the text passes the shield; either way a verdict has the reason."""

    async def fail() -> None:
        raise error

    heard = await hear([Finder(rules("it", fails_open=fails_open), "owl", fail)], ["an owl"])
    assert heard.text == ("an owl" if fails_open else "")
    assert heard.verdicts == [("it", FLAG if fails_open else BLOCK, reason)]


async def test_an_inspection_that_takes_too_long_fails() -> None:
    """The policy's timeout ends the wait for a shield that never answers."""
    heard = await hear([Finder(rules("it", timeout=1e-3), "owl", never)], ["an owl"])
    assert heard.verdicts == [("it", BLOCK, "SHIELD_TIMEOUT")]


@pytest.mark.parametrize(
    ("over", "text", "actions"),
    [
        (shield_pb2.OVER_BUDGET_HOLD, "an [WORD]. ", [FLAG, REDACT]),
        (shield_pb2.OVER_BUDGET_DEGRADE, "an owl. ", [FLAG, FLAG]),
        (shield_pb2.OVER_BUDGET_FAIL, "", [BLOCK]),
    ],
)
async def test_a_spent_budget_does_what_the_policy_says(
    over: shield_pb2.OverBudget.ValueType, text: str, actions: list[int]
) -> None:
    """Text goes on waiting, or leaves past the slow shield, whose redaction is a flag then, or is kept for good."""
    answering = asyncio.Event()

    async def pause() -> None:
        await answering.wait()

    def when(clearance: shield_pb2.Clearance) -> None:
        if any(verdict.error == "LATENCY_BUDGET" for verdict in clearance.verdicts):
            answering.set()

    budget = shield_pb2.LatencyBudget(time=Duration(nanos=1_000_000), over=over)
    heard = await hear([Finder(rules("it", REDACT), "owl", pause)], ["an owl. "], when=when, latency_budget=budget)
    assert heard.text == text
    reasons = ["LATENCY_BUDGET", "word"]
    assert heard.verdicts == [("it", action, reason) for action, reason in zip(actions, reasons, strict=False)]


async def test_a_relaxed_shield_still_blocks() -> None:
    """A block that comes after the text has left, as the budget was spent, ends the stream."""
    answering = asyncio.Event()

    async def pause() -> None:
        await answering.wait()

    def when(clearance: shield_pb2.Clearance) -> None:
        if clearance.watermark:
            answering.set()

    budget = shield_pb2.LatencyBudget(time=Duration(nanos=1_000_000), over=shield_pb2.OVER_BUDGET_DEGRADE)
    heard = await hear([Finder(rules("it"), "owl", pause)], ["an owl. "], when=when, latency_budget=budget)
    assert heard.text == "an owl. "
    assert heard.verdicts == [("it", FLAG, "LATENCY_BUDGET"), ("it", BLOCK, "word")]


async def test_the_texts_of_one_call_are_looked_at_side_by_side() -> None:
    """A slow shield is shown all texts of an Inspect before it has answered about one; the answers keep their order."""
    texts = ["an owl", "a hen", "no bird", "owl and owl"]
    together = asyncio.Barrier(len(texts))

    async def pause() -> None:
        await together.wait()

    class Only(Catalogue):
        async def shields(self, specs: Sequence[policy_pb2.ShieldSpec], field: str = "") -> tuple[Shield, ...]:
            del specs, field
            return (Finder(rules("it", REDACT), "owl", pause),)

    servicer = ShieldServicer(Only(capacity=1, default_timeout=60.0), max_characters=1_000)
    request = shield_pb2.InspectRequest(direction=policy_pb2.DIRECTION_INPUT, texts=texts)
    async with asyncio.timeout(30):
        response = await servicer.Inspect(request, None)
    assert [(each.text_index, each.start) for each in response.edits] == [(0, 3), (3, 0), (3, 8)]


async def test_time_is_told_for_each_shield_that_worked() -> None:
    """Waiting for a slow shield counts as its work, in the text's every piece; what another did does not."""
    with ShieldSpans([Finder(rules("it"), "owl", pauses(1)), await words("fox", BLOCK)]) as spans:
        spans.work(0, 2.0)
        spans.work(0, 1.0)
        assert spans.worked == [3.0, 0.0]
    heard_by = [Finder(rules("slow"), "owl", pauses(1)), Finder(rules("mute", FLAG), "owl", pauses(2))]
    with ShieldSpans(heard_by) as spans:
        async with Inspection(heard_by, spans) as inspection:
            await inspection.inspect("an owl")
        assert min(spans.worked) > 0


async def test_nothing_stays_behind_a_block() -> None:
    """When a stream ends, no slow shield looks at its text any longer."""
    mute = Finder(rules("mute", FLAG), "owl", never)
    heard = await hear([mute, await words("fox", BLOCK)], ["a fox", " and more"])
    assert heard.blocked
    assert mute.lanes == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_reader_far_ahead_of_a_shield_waits() -> None:
    """No more than a window of text gathers before a shield that does not answer."""
    mute = Finder(rules("mute"), "owl", never)
    with ShieldSpans([mute]) as spans:
        async with Inspection([mute], spans) as inspection:
            await inspection.feed("x" * WINDOW, end=False)
            await asyncio.wait_for(inspection.room(), 30)
            await inspection.feed("x" * WINDOW, end=False)
            waiting = asyncio.create_task(inspection.room())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 30)


def test_the_score_decides_between_actions() -> None:
    """The highest threshold reached counts; below all of them the finding is allowed; a kind's own come first."""
    steps = {"": [Threshold(0.9, BLOCK), Threshold(0.5, FLAG)], "owl": [Threshold(0.7, REDACT)]}
    it = Rules("it", FLAG, {"hen": REDACT}, fails_open=False, timeout=1.0, thresholds=steps)
    actions = [it.action_for(kind, score) for kind in ("fox", "owl", "hen") for score in (0.95, 0.7, 0.3)]
    allow = policy_pb2.ACTION_ALLOW
    assert actions == [BLOCK, FLAG, allow, REDACT, REDACT, allow, REDACT, REDACT, REDACT]
    assert it.strictest == BLOCK


async def test_a_pseudonym_stands_for_its_value() -> None:
    """Under one key a value has one pseudonym, however it is written, and another key gives another."""
    pii = spec(placeholder="[{kind}_{pseudonym}]", options={"kinds": ["payment_card"]})
    shields = await CATALOGUE.shields([pii])
    pieces = ["4111 1111 1111 1111, ", "4111-1111-1111-1111", ", 5555 5555 5555 4444."]
    first = (await hear(shields, pieces, pseudonym_key=b"1" * 16)).text
    one, same, other = first.rstrip(".").split(", ")
    assert one == same != other
    assert re.fullmatch(r"\[PAYMENT_CARD_[a-z2-7]{6}\]", one)
    assert (await hear(shields, ["".join(pieces)], pseudonym_key=b"1" * 16)).text == first
    assert (await hear(shields, pieces, pseudonym_key=b"2" * 16)).text != first


def test_a_whole_shield_is_heard_after_all_others() -> None:
    """A whole shield that is done early neither lets text out nor blocks before the others have decided."""
    for found in ((), (Finding("whole", 0, 9, 1.0),)):
        ledger = Ledger([rules("whole", kind="whole"), rules("window", BLOCK)])
        ledger.report(0, Progress(found, 9, 9))
        assert ledger.settle(9) == Release(0)
        ledger.report(1, Progress((Finding("word", 4, 6, 1.0),), 9, 9))
        release = ledger.settle(9)
        assert (release.watermark, release.blocked) == (0, True)
        assert [each.finding.kind for each in release.findings] == ["word"]
