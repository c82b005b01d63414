"""What the demonstration shows, and what it must have shown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shieldmesh.client.events import Action, Delta, Direction, Event, Verdict

CARD: Final = "4111 1111 1111 1111"
"""The card number of test systems everywhere; it belongs to nobody."""


@dataclass(frozen=True, slots=True)
class Act:
    """One turn of the demonstration."""

    title: str
    prompt: str
    profile: str


PLAIN: Final = Act("A plain question, answered by a real model", "Why is the sky blue? Answer briefly.", "default")
GUARDED: Final = Act(
    "An answer with a payment card in it, redacted on its way", f"My card is {CARD}, please keep it safe.", "echo"
)


def problems_of(act: Act, events: Sequence[Event]) -> list[str]:
    """What the turn of an act should have shown and did not."""
    deltas = [event for event in events if isinstance(event, Delta) and event.text]
    problems: list[str] = []
    if len(deltas) < 2:
        problems.append(f"the answer came in {len(deltas)} pieces: it was not streamed")
    if act is GUARDED:
        text = "".join(delta.text for delta in deltas)
        if re.sub(r"\D", "", CARD) in re.sub(r"\D", "", text):
            problems.append("the card number got out")
        if not any(_redacted(event) for event in events):
            problems.append("no shield redacted anything")
    return problems


def _redacted(event: Event) -> bool:
    return isinstance(event, Verdict) and event.action is Action.REDACT and event.direction is Direction.OUTPUT
