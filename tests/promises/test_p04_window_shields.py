"""P4 for window shields: what leaves is what they make of the whole text, however that is cut, whoever is faster."""

import re
from typing import Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.shield import Action, Shield, Threshold
from services.shield.window.windows import Windows
from shieldmesh.profile.options import Window
from shieldmesh.v1 import policy_pb2
from tests.services.shield.examples import CUTS, cut
from tests.services.shield.slow import hear
from tests.services.shield.test_slow import words
from tests.services.shield.window.models import WINDOWS, Fickle, pauses

ALLOW, FLAG, REDACT, BLOCK = (
    policy_pb2.ACTION_ALLOW,
    policy_pb2.ACTION_FLAG,
    policy_pb2.ACTION_REDACT,
    policy_pb2.ACTION_BLOCK,
)
SENTENCES: Final = (
    "A fox. ",
    "Two foxes! ",
    "Is it? ",
    "fo",
    "x",
    "\n",
    "これ。",
    " and so on",
    "z" * 30,
    "foxfox",
    ". ",
    "",
)
TEXTS = st.lists(st.sampled_from(SENTENCES), max_size=12).map("".join)
ACTION: st.SearchStrategy[Action] = st.sampled_from([FLAG, REDACT, BLOCK])


class Seen(NamedTuple):
    """A finding that redacts or blocks. Sorts by place, the longest first, then by shield."""

    start: int
    minus_end: int
    shield: int
    placeholder: str
    blocks: bool


async def found(models: list[tuple[Fickle, Window, Action]], text: str, match: Action) -> list[Seen]:
    """What acts on a text: the match shield's words and each window that a model finds fault with, worked out anew."""
    seen = [
        Seen(word.start(), -word.end(), 0, "[DENIED_TERM]", match == BLOCK)
        for word in re.finditer(r"(?i)(?<!\w)fox(?!\w)", text)
        if match >= REDACT
    ]
    for number, (model, window, action) in enumerate(models, 1):
        for part in Windows(window).feed(text, end=True):
            sees = not part.text.isspace() and any(each.score >= 0.5 for each in await model.look(part.text.strip()))
            if action >= REDACT and sees:
                start = part.start + len(part.text) - len(part.text.lstrip())
                seen.append(Seen(start, -part.start - len(part.text.rstrip()), number, "[ODD]", action == BLOCK))
    return sorted(seen)


def expected(seen: list[Seen], text: str) -> tuple[str, bool]:
    """The text up to the block, with what overlaps replaced together; whether it blocks."""
    inside = {place for each in seen for place in range(each.start + 1, -each.minus_end)}
    leaves, place = "", 0
    while place < len(text):
        end = next(place for place in range(place + 1, len(text) + 1) if place not in inside)
        cluster = [each for each in seen if place <= each.start < end]
        if any(each.blocks for each in cluster):
            return leaves, True
        leaves += cluster[0].placeholder if cluster else text[place:end]
        place = end
    return leaves, False


@settings(max_examples=250)
@given(
    TEXTS,
    CUTS,
    st.lists(st.tuples(st.integers(0, 99), WINDOWS, ACTION), min_size=1, max_size=3),
    ACTION,
    st.integers(0, 2**32),
)
async def test_what_leaves_is_what_they_make_of_the_whole_text(
    text: str, cuts: list[int], drawn: list[tuple[int, Window, Action]], match: Action, seed: int
) -> None:
    """Any cut, any speed of several models beside a match shield: text and verdicts are those of the whole text."""
    models = [(Fickle(taste, pauses(seed + taste)), window, action) for taste, window, action in drawn]

    async def shields() -> list[Shield]:
        slow = [
            model.shield(f"model{number}", action, window, thresholds={"": [Threshold(0.5, action)]})
            for number, (model, window, action) in enumerate(models)
        ]
        return [await words("fox", match), *slow]

    whole = await hear(await shields(), [text])
    pieces = await hear(await shields(), cut(text, cuts), pause=pauses(seed))
    assert (pieces.text, pieces.blocked) == expected(await found(models, text, match), text)
    assert (whole.text, whole.blocked) == (pieces.text, pieces.blocked)
    holding = {"deny_list"} | {f"model{number}" for number, (_, _, action) in enumerate(models) if action != FLAG}
    assert sorted(v for v in pieces.verdicts if v[0] in holding) == sorted(v for v in whole.verdicts if v[0] in holding)
    if not whole.blocked:
        assert sorted(pieces.verdicts) == sorted(whole.verdicts)


@settings(max_examples=60)
@given(TEXTS, WINDOWS, st.sampled_from([REDACT, BLOCK]), st.integers(0, 99))
async def test_by_the_character(text: str, window: Window, action: Action, taste: int) -> None:
    """Text that comes character by character leaves as the whole text does."""
    model = Fickle(taste)
    shield = model.shield("model", action, window, thresholds={"": [Threshold(0.5, action)]})
    heard = await hear([shield], list(text))
    assert (heard.text, heard.blocked) == expected(await found([(model, window, action)], text, ALLOW), text)
