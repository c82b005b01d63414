"""How policies compare."""

from shieldmesh.cli.shields.comparison import Difference, cost, differences
from shieldmesh.cli.shields.playing import Played, Seen

EMAIL = Seen("pii", "email", 3, 8, 1.0, "redact")


def test_what_all_do_alike_is_no_difference() -> None:
    """Scores do not count, actions do."""
    assert differences({"1": [Played(seen=[EMAIL]), Played(seen=[EMAIL._replace(score=0.5)])]}) == []
    assert differences({"1": [Played(seen=[EMAIL]), Played(seen=[EMAIL._replace(action="block")])]}) == [
        Difference("1", "pii", "email", 3, 8, ("redact", "block"))
    ]


def test_what_only_some_see_is_a_difference() -> None:
    """Differences are told by turn and place; who says nothing has no action."""
    failure = Seen("judge", "SHIELD_TIMEOUT", 0, 0, 0.0, "block", failed=True)
    later = EMAIL._replace(start=1)
    played = {
        "1": [Played(seen=[EMAIL]), Played(seen=[later]), Played()],
        "2": [Played(), Played(seen=[failure]), Played()],
    }
    assert differences(played) == [
        Difference("1", "pii", "email", 1, 8, ("", "redact", "")),
        Difference("1", "pii", "email", 3, 8, ("redact", "", "")),
        Difference("2", "judge", "SHIELD_TIMEOUT", 0, 0, ("", "block", "")),
    ]


def test_what_a_policy_costs() -> None:
    """Means are over deltas, not over turns."""
    turns = [
        Played(held=[0, 3], waits=[0.1, 0.3], seen=[EMAIL, EMAIL]),
        Played(held=[6], blocked=True, seen=[EMAIL._replace(action="block", failed=True)]),
    ]
    what = cost(turns)
    assert (what.blocked, what.redacted, what.failures, what.held_mean, what.held_most) == (1, 2, 1, 3.0, 6)
    assert (what.wait_mean, what.wait_most) == (0.2, 0.3)


def test_a_policy_that_released_nothing_made_nothing_wait() -> None:
    """There is no mean of no waits."""
    what = cost([])
    assert (what.held_mean, what.held_most, what.wait_mean, what.wait_most) == (0.0, 0, None, None)
