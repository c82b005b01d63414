"""What leaves a set of shields is what they make of the whole text, and nothing waits for long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.catalogue import Catalogue
from services.shield.inspection import SLICE, Inspection
from services.shield.ledger import Ledger, Release
from services.shield.shield import Finding, Progress, QuickLane, QuickShield, Rules, Shield, SlowShield
from services.shield.spans import ShieldSpans
from shieldmesh.profile import struct
from shieldmesh.v1 import policy_pb2
from tests.services.shield.examples import CARD, CUTS, cut, texts
from tests.services.shield.reading import inspect

ALLOW, FLAG, REDACT, BLOCK = (
    policy_pb2.ACTION_ALLOW,
    policy_pb2.ACTION_FLAG,
    policy_pb2.ACTION_REDACT,
    policy_pb2.ACTION_BLOCK,
)
CATALOGUE = Catalogue(capacity=64, default_timeout=5.0)


async def shields(pii: int, secrets: int, terms: int, by_kind: int) -> tuple[Shield, ...]:
    """All built-in shields with these actions; e-mail addresses have their own."""
    values = policy_pb2.Action.values()
    return await CATALOGUE.shields(
        [
            policy_pb2.ShieldSpec(
                name="pii",
                type="pii",
                action=values[pii],
                action_by_kind={"email": values[by_kind]},
                options=struct({"region": "US"}),
            ),
            policy_pb2.ShieldSpec(name="secrets", type="secrets", action=values[secrets]),
            policy_pb2.ShieldSpec(
                name="terms",
                type="deny_list",
                action=values[terms],
                options=struct({"terms": ["project bluebird", "bluebird", "example", "1111 1111", "fox"]}),
            ),
        ]
    )


ANY_ACTION = st.integers(1, 4)


@settings(max_examples=150)
@given(texts(), CUTS, st.tuples(ANY_ACTION, ANY_ACTION, ANY_ACTION, ANY_ACTION))
async def test_what_leaves_is_what_the_shields_make_of_the_whole_text(
    text: str, cuts: list[int], actions: tuple[int, int, int, int]
) -> None:
    """Released text, edits, verdicts and blocks are the same for every cut and every mix of actions."""
    guard = await shields(*actions)
    whole = await inspect(guard, [text])
    pieces = await inspect(guard, cut(text, cuts))
    assert (pieces.text, pieces.told, pieces.blocked) == (whole.text, whole.told, whole.blocked)


async def test_a_card_never_leaves_in_any_two_way_split_nor_character_by_character() -> None:
    """No cut of the text lets a piece of a card number out, and the rest of the text arrives in full."""
    guard = await shields(REDACT, REDACT, REDACT, REDACT)
    text = f"Pay with {CARD.replace(' ', '')} today, or {CARD} tomorrow."
    for pieces in [[text[:place], text[place:]] for place in range(len(text) + 1)] + [list(text)]:
        outcome = await inspect(guard, pieces)
        assert outcome.text == "Pay with [PAYMENT_CARD] today, or [PAYMENT_CARD] tomorrow."


async def test_a_block_keeps_everything_from_its_start() -> None:
    """What stands before the finding leaves, nothing else does, and the block is told last."""
    guard = await shields(FLAG, FLAG, BLOCK, FLAG)
    outcome = await inspect(guard, ["I mailed a@b.com about bluebird and c@d.com"])
    assert outcome.text == "I mailed a@b.com about "
    assert [(each.finding.kind, each.action) for each in outcome.told] == [("email", FLAG), ("denied_term", BLOCK)]


async def test_the_greater_action_wins_where_findings_overlap() -> None:
    """A block inside a redacted span blocks from the start of that span; redactions that overlap become one."""
    assert (await inspect(await shields(REDACT, FLAG, BLOCK, REDACT), ["to jane.doe@example.com!"])).text == "to "
    merged = await inspect(await shields(REDACT, FLAG, REDACT, REDACT), ["to jane.doe@example.com!"])
    assert merged.text == "to [EMAIL]!"
    assert {each.finding.kind for each in merged.told} == {"email", "denied_term"}


def test_of_overlapping_redactions_the_first_gives_the_placeholder() -> None:
    """The one that starts first, then the longest, then the one listed first names the edit."""
    ledger = Ledger([_rules("one"), _rules("two")])
    ledger.report(0, Progress((Finding("late", 4, 9, 1.0), Finding("short", 20, 22, 1.0)), 30, 30))
    ledger.report(1, Progress((Finding("early", 2, 6, 1.0), Finding("long", 20, 25, 1.0)), 30, 30))
    edits = [(edit.start, edit.end, edit.placeholder) for edit in ledger.settle(30).edits]
    assert edits == [(2, 9, "[EARLY]"), (20, 25, "[LONG]")]


def test_the_release_stays_out_of_a_redaction_that_could_grow() -> None:
    """A redaction waits for every shield that could still find something that overlaps it."""
    ledger = Ledger([_rules("quick"), _rules("careful")])
    ledger.report(0, Progress((Finding("seen", 2, 8, 1.0),), 10, 10))
    ledger.report(1, Progress((), 5, 5))
    assert ledger.settle(10) == Release(2)
    assert ledger.holding(10) == ["careful"]
    ledger.report(1, Progress((), 10, 10))
    assert [edit.end for edit in ledger.settle(10).edits] == [8]


def test_a_block_waits_until_nothing_before_it_is_open() -> None:
    """While a start up to the block's is undecided, all from the block on is held; then the block is told."""
    ledger = Ledger([_rules("deny", action=BLOCK), _rules("watch", action=FLAG)])
    ledger.report(0, Progress((Finding("bad", 4, 8, 1.0),), 20, 20))
    ledger.report(1, Progress((), 20, 4))
    assert ledger.settle(20) == Release(4)
    ledger.report(1, Progress((Finding("seen", 3, 6, 1.0),), 20, 20))
    release = ledger.settle(20)
    assert (release.watermark, release.blocked) == (4, True)
    assert [each.finding.kind for each in release.findings] == ["seen", "bad"]


def test_of_several_blocks_the_first_is_told() -> None:
    """Two blocks that start together are told as one: the longest, even when the shorter is known before."""
    ledger = Ledger([_rules("quick", action=BLOCK), _rules("slow", action=BLOCK)])
    ledger.report(0, Progress((Finding("short", 4, 8, 1.0),), 9, 9))
    ledger.report(1, Progress((), 4, 4))
    assert not ledger.settle(9).blocked
    ledger.report(1, Progress((Finding("long", 4, 20, 1.0),), 20, 20))
    assert [each.finding.kind for each in ledger.settle(20).findings] == ["long"]


@pytest.mark.parametrize(("fails_open", "text", "action"), [(False, "", BLOCK), (True, "hello", FLAG)])
async def test_a_shield_that_raises_counts_as_its_policy_says(
    fails_open: bool, text: str, action: policy_pb2.Action.ValueType
) -> None:
    """Closed, its failure blocks; open, the text passes it and a verdict says so."""
    with ShieldSpans([Broken(fails_open=fails_open)]) as spans:
        release = await Inspection([Broken(fails_open=fails_open)], spans).feed("hello", end=True)
    assert "hello"[: release.watermark] == text
    assert [(each.action, each.error) for each in release.failures] == [(action, "SHIELD_FAILED")]


async def test_a_shield_that_takes_too_long_counts_as_failed() -> None:
    """A shield whose time is up over a long text is stopped, and fails closed."""
    guard = await CATALOGUE.shields([policy_pb2.ShieldSpec(name="pii", type="pii", action=REDACT)])
    assert not isinstance(guard[0], SlowShield)
    hurried: Shield = Hurried(guard[0])
    with ShieldSpans([hurried]) as spans:
        release = await Inspection([hurried], spans).feed("some words " * SLICE, end=True)
    assert release.blocked
    assert [each.error for each in release.failures] == ["SHIELD_TIMEOUT"]


def _rules(
    name: str,
    *,
    action: policy_pb2.Action.ValueType = REDACT,
    fails_open: bool = False,
    timeout: float = 1.0,
) -> Rules:
    return Rules(name, action, {}, fails_open=fails_open, timeout=timeout)


class Broken:
    """A shield that raises."""

    def __init__(self, *, fails_open: bool) -> None:
        self.rules = _rules("broken", fails_open=fails_open)

    def lane(self) -> QuickLane:
        return self

    def feed(self, text: str, *, end: bool) -> Progress:
        raise RuntimeError(text, end)


class Hurried:
    """A shield that has next to no time."""

    def __init__(self, shield: QuickShield) -> None:
        self.rules = _rules("hurried", timeout=1e-9)
        self.lane = shield.lane


async def test_a_finding_inside_another_is_told_once() -> None:
    """A number that two patterns see is one verdict, in any cut; another beside it is told, too."""
    guard = await shields(FLAG, FLAG, FLAG, FLAG)
    text = "Call +1 415 555 2671 or 415-555-2671."
    for pieces in ([text], list(text), [text[:9], text[9:]]):
        outcome = await inspect(guard, pieces)
        assert [(each.finding.kind, each.start, each.end) for each in outcome.told] == [
            ("phone", 5, 20),
            ("phone", 24, 36),
        ]
