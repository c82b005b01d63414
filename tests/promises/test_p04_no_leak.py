"""P4: what leaves is exactly what the shields make of the whole text, however that is cut into tokens.

What they make of the whole text is worked out here anew, character by character, from what each shield finds in it.
"""

from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.catalogue import Catalogue
from services.shield.shield import Shield, SlowShield
from shieldmesh.profile import struct
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import policy_pb2
from tests.services.shield.examples import CUTS, MATCHES, cut, disguises, texts
from tests.services.shield.reading import inspect

FLAG, REDACT, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK
ACTIONS: Final = (FLAG, REDACT, BLOCK)
MATCH_TYPES: Final = sorted(name for name, each in SHIELD_TYPES.items() if each.kind == "match")
OPTIONS: Final[dict[str, dict[str, object]]] = {
    "pii": {"region": "US", "countries": ["us", "gb", "nl"]},
    "deny_list": {"terms": ["project bluebird", "bluebird", "example", "1111 1111", "fox", "c++", "ano"]},
    "url": {"allow": ["example.com"]},
}
CATALOGUE: Final = Catalogue(capacity=len(MATCH_TYPES) * len(ACTIONS), default_timeout=60.0)

disguised = st.lists(st.sampled_from(MATCHES).flatmap(disguises) | texts(2), max_size=4).map("".join)


async def guard(actions: dict[str, policy_pb2.Action.ValueType]) -> tuple[Shield, ...]:
    """A set of built-in shields, each with its action."""
    return await CATALOGUE.shields(
        [
            policy_pb2.ShieldSpec(name=name, type=name, action=action, options=struct(OPTIONS.get(name, {})))
            for name, action in actions.items()
        ]
    )


class Seen(NamedTuple):
    """A finding in a whole text. Sorts by place, the longest first, then by shield."""

    start: int
    minus_end: int
    shield: int
    kind: str


def expected(shields: tuple[Shield, ...], text: str) -> tuple[str, bool]:
    """What the shields make of the whole text: up to the block, with what is redacted replaced; whether it blocks."""
    acting = sorted(
        Seen(finding.start, -finding.end, number, finding.kind)
        for number, shield in enumerate(shields)
        if not isinstance(shield, SlowShield)
        for finding in shield.lane().feed(text, end=True).findings
        if shield.rules.action_for(finding.kind) >= REDACT
    )
    # Places between characters over which no finding reaches are where one cluster ends and another begins.
    inside = {place for each in acting for place in range(each.start + 1, -each.minus_end)}
    leaves, place = "", 0
    while place < len(text):
        end = next(place for place in range(place + 1, len(text) + 1) if place not in inside)
        cluster = [each for each in acting if place <= each.start < end]
        if any(shields[each.shield].rules.action_for(each.kind) == BLOCK for each in cluster):
            return leaves, True
        removes = cluster and SHIELD_TYPES[shields[cluster[0].shield].rules.name].removes
        leaves += ("" if removes else f"[{cluster[0].kind.upper()}]") if cluster else text[place:end]
        place = end
    return leaves, False


@pytest.mark.parametrize("name", MATCH_TYPES)
@settings(max_examples=250)
@given(texts() | disguised, CUTS, st.sampled_from([REDACT, REDACT, BLOCK]))
async def test_of_one_shield(name: str, text: str, cuts: list[int], action: policy_pb2.Action.ValueType) -> None:
    """Every built-in match shield alone lets out, in any cut, what it makes of the whole text."""
    shields = await guard({name: action})
    outcome = await inspect(shields, cut(text, cuts))
    assert (outcome.text, outcome.blocked) == expected(shields, text)


@settings(max_examples=800)
@given(texts() | disguised, CUTS, st.fixed_dictionaries({name: st.sampled_from(ACTIONS) for name in MATCH_TYPES}))
async def test_of_all_shields_together(
    text: str, cuts: list[int], actions: dict[str, policy_pb2.Action.ValueType]
) -> None:
    """Shields whose findings overlap, with any mix of actions, let out in any cut what they make of the whole text."""
    shields = await guard(actions)
    outcome, whole = await inspect(shields, cut(text, cuts)), await inspect(shields, [text])
    assert (outcome.text, outcome.blocked) == expected(shields, text)
    assert outcome.told == whole.told


@settings(max_examples=100)
@given(st.sampled_from(MATCHES).flatmap(disguises))
async def test_of_single_characters(secret: str) -> None:
    """A secret, disguised or not, that comes character by character leaves none of its letters and digits."""
    shields = await guard(dict.fromkeys(MATCH_TYPES, REDACT))
    outcome = await inspect(shields, [*"so: ", *secret, *" ok"])
    assert (outcome.text, outcome.blocked) == expected(shields, f"so: {secret} ok")
    assert outcome.text.startswith("so: ")
    assert outcome.told
