"""What the demonstration must have shown."""

from shieldmesh.cli.demonstration import CARD, GUARDED, PLAIN, problems_of
from shieldmesh.client.events import Action, Delta, Direction, Event, Finding, Verdict

REDACTION = Verdict(2, "pii", Direction.OUTPUT, Action.REDACT, (Finding("payment_card", 11, 30, 1.0),))


def deltas(*texts: str) -> list[Event]:
    return [Delta(index, text) for index, text in enumerate(texts, 1)]


def test_a_good_show_has_no_problems() -> None:
    """Streamed text, and a card that was redacted on its way."""
    assert problems_of(PLAIN, deltas("Light", " scatters")) == []
    assert problems_of(GUARDED, [*deltas("My card is ", "[PAYMENT_CARD]"), REDACTION]) == []


def test_a_leak_is_a_problem() -> None:
    """A card number that got out is found however it was cut and spaced."""
    leak = [*deltas("My card is ", *CARD.replace(" ", "-")), REDACTION]
    assert problems_of(GUARDED, leak) == ["the card number got out"]


def test_silence_is_a_problem() -> None:
    """An answer in one piece, or without the redaction, did not show what it should."""
    assert problems_of(PLAIN, deltas("all at once")) == ["the answer came in 1 pieces: it was not streamed"]
    assert problems_of(GUARDED, deltas("a", "b")) == ["no shield redacted anything"]
