"""How what two policies said compares."""

from typing import Any

import pytest

from services.orchestrator.differences import compare
from shieldmesh.v1 import policy_pb2

INPUT, OUTPUT = policy_pb2.DIRECTION_INPUT, policy_pb2.DIRECTION_OUTPUT
FLAG, REDACT, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK


def verdict(action: policy_pb2.Action.ValueType, *starts: int, **fields: Any) -> policy_pb2.Verdict:
    """A verdict on e-mail addresses of five characters."""
    found = [policy_pb2.Finding(kind="email", start=start, end=start + 5) for start in starts]
    told: dict[str, Any] = {"shield": "pii", "direction": OUTPUT, "action": action, "findings": found}
    return policy_pb2.Verdict(**(told | fields))


def hows(live: list[policy_pb2.Verdict], shadow: list[policy_pb2.Verdict]) -> list[tuple[int, str]]:
    """Where findings start and how they compare."""
    return [(each.place.start, each.how) for each in compare(live, shadow)]


@pytest.mark.parametrize(
    ("live", "shadow", "how"),
    [
        ([verdict(FLAG, 3)], [verdict(FLAG, 3)], "same"),
        ([verdict(FLAG, 3)], [verdict(FLAG, 3, shield="other")], "same"),
        ([verdict(FLAG, 3)], [verdict(REDACT, 3)], "stricter"),
        ([verdict(BLOCK, 3)], [verdict(REDACT, 3)], "milder"),
        ([verdict(FLAG, 3), verdict(REDACT, 3)], [verdict(REDACT, 3)], "same"),
        ([], [verdict(FLAG, 3)], "only_shadow"),
        ([verdict(FLAG, 3)], [], "only_live"),
    ],
)
def test_a_finding_is_compared_by_its_strictest_action(
    live: list[policy_pb2.Verdict], shadow: list[policy_pb2.Verdict], how: str
) -> None:
    """What the shield is called does not matter: candidates may call theirs differently."""
    assert hows(live, shadow) == [(3, how)]


def test_findings_of_other_places_are_others() -> None:
    """Way, text, span and kind tell them apart."""
    others = [verdict(FLAG, 4), verdict(FLAG, 3, direction=INPUT), verdict(FLAG, 3, text_index=1)]
    assert len(hows([verdict(FLAG, 3)], others)) == 4


def test_behind_a_block_nothing_is_compared() -> None:
    """Whoever blocked said nothing there; texts that the block did not touch are compared."""
    live = [verdict(FLAG, 1), verdict(BLOCK, 10)]
    shadow = [verdict(FLAG, 1, 20), verdict(FLAG, 30, text_index=1)]
    assert hows(live, shadow) == [(1, "same"), (10, "only_live"), (30, "only_shadow")]
    assert hows(shadow, live) == [(1, "same"), (10, "only_shadow"), (30, "only_live")]


def test_what_reaches_over_the_start_of_a_block_is_not_compared() -> None:
    """Whoever blocks never sees a text as a whole; what both see from the same place on is compared."""
    assert hows([verdict(BLOCK, 10)], [verdict(FLAG, 5, 6, 10)]) == [(5, "only_shadow"), (10, "milder")]


def test_behind_a_blocked_input_there_is_no_output() -> None:
    """What the model said is not compared where one of the policies would not have asked it."""
    assert hows([verdict(BLOCK, 1, direction=INPUT)], [verdict(FLAG, 1, direction=INPUT), verdict(FLAG, 0)]) == [
        (1, "milder")
    ]


def test_failures_are_compared_by_their_reason() -> None:
    """A shield that failed in one policy alone is a difference."""
    (difference,) = compare([], [verdict(BLOCK, error="SHIELD_TIMEOUT")])
    assert (difference.place.kind, difference.how) == ("SHIELD_TIMEOUT", "only_shadow")
