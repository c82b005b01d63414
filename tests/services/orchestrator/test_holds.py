"""The receipt says which shields held text, how much, and for how long."""

from services.orchestrator.holds import Holds
from services.orchestrator.lanes import Lanes
from shieldmesh.v1 import chat_pb2, shield_pb2


def told(holds: Holds, now: float) -> list[tuple[str, int, float]]:
    """The holds as plain values."""
    return [(each.shield, each.most_characters, each.time.ToTimedelta().total_seconds()) for each in holds.all(now)]


def test_each_shield_answers_for_what_it_held() -> None:
    """Times run while a shield is named, over all lanes; what is still held counts; who held nothing is not named."""
    holds = Holds()
    holds.note(0, [], 0, 1.0)
    holds.note(0, ["pii", "judge"], 9, 2.0)
    holds.note(0, ["judge"], 4, 3.0)
    holds.note(1, ["judge"], 2, 4.0)
    holds.note(0, [], 0, 5.0)
    holds.note(0, ["pii"], 20, 6.0)
    assert told(holds, 8.0) == [("judge", 9, 3.0 + 4.0), ("pii", 20, 1.0 + 2.0)]


def test_a_model_that_writes_nothing_is_looked_at() -> None:
    """The shields are shown that the text is empty, and nothing comes of clearing it."""
    lanes = Lanes()
    assert list(lanes.endings()) == [shield_pb2.InspectText(lane=0, offset=0, end=True)]
    assert lanes.clear(shield_pb2.Clearance(lane=0), 1e6) is None
    assert lanes.all()[0].longest_hold == 0
    assert list(lanes.holds.all(2.0)) == list[chat_pb2.Hold]()
