"""How what two policies said about one turn compares. Pure.

A finding is known by its way, its text, its kind and its place, whatever the shield that found it is called. What lies
behind a block or reaches over its start is not compared: the policy that blocks has no chance to say anything there,
and a text that was cut says little about the whole.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from shieldmesh.v1 import policy_pb2

Comparison = Literal["same", "stricter", "milder", "only_shadow", "only_live"]


class Place(NamedTuple):
    """Where something was found, and what; for a shield that failed its reason, at the start of the text."""

    direction: policy_pb2.Direction.ValueType
    text_index: int
    start: int
    end: int
    kind: str


class Difference(NamedTuple):
    """How the policies answer one finding; `ACTION_ALLOW` is the action of one that says nothing."""

    place: Place
    how: Comparison
    live: policy_pb2.Action.ValueType
    shadow: policy_pb2.Action.ValueType


def compare(live: Iterable[policy_pb2.Verdict], shadow: Iterable[policy_pb2.Verdict]) -> list[Difference]:
    """Every finding of either policy, by place."""
    ours, theirs = _actions(live), _actions(shadow)
    blocks = [place for said in (ours, theirs) for place, action in said.items() if action == policy_pb2.ACTION_BLOCK]
    return [
        _difference(place, ours.get(place, policy_pb2.ACTION_ALLOW), theirs.get(place, policy_pb2.ACTION_ALLOW))
        for place in sorted({*ours, *theirs})
        if not any(_behind(place, block) for block in blocks)
    ]


def _actions(verdicts: Iterable[policy_pb2.Verdict]) -> Mapping[Place, policy_pb2.Action.ValueType]:
    """The strictest action at each place."""
    actions: dict[Place, policy_pb2.Action.ValueType] = {}
    for verdict in verdicts:
        failed = [policy_pb2.Finding(kind=verdict.error)] if verdict.error else []
        for found in (*verdict.findings, *failed):
            place = Place(verdict.direction, verdict.text_index, found.start, found.end, found.kind)
            actions[place] = max(actions.get(place, policy_pb2.ACTION_ALLOW), verdict.action)
    return actions


def _difference(place: Place, live: policy_pb2.Action.ValueType, shadow: policy_pb2.Action.ValueType) -> Difference:
    how: Comparison
    if live == shadow:
        how = "same"
    elif live <= policy_pb2.ACTION_ALLOW:
        how = "only_shadow"
    elif shadow <= policy_pb2.ACTION_ALLOW:
        how = "only_live"
    else:
        how = "stricter" if shadow > live else "milder"
    return Difference(place, how, live, shadow)


def _behind(place: Place, block: Place) -> bool:
    """Whether a place lies behind a block, on whose account the model was not asked or said no more."""
    if place.direction != block.direction:
        return block.direction == policy_pb2.DIRECTION_INPUT
    return place.text_index == block.text_index and (place.start > block.start or place.start < block.start < place.end)
