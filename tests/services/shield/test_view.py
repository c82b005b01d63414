"""Patterns see through disguises, and what they find is told in places of the text as it was written."""

# ruff: noqa: RUF001  # letters that look like others are what this is about

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shield.detectors import deny_list, pii, secrets
from services.shield.match import MatchShield
from services.shield.matching.folding import INVISIBLE, alternatives, fold, is_mark, special
from services.shield.matching.view import View
from services.shield.shield import Finding, Rules
from shieldmesh.profile.options import DenyListOptions, PiiOptions, SecretsOptions
from shieldmesh.v1 import policy_pb2
from tests.services.shield.examples import CARD, CUTS, EMAIL, IBAN, PHONE, cut, disguises

RULES = Rules("it", policy_pb2.ACTION_REDACT, {}, fails_open=False, timeout=1.0)
PII = MatchShield(RULES, list(pii.patterns(PiiOptions())))
SECRETS = MatchShield(RULES, list(secrets.patterns(SecretsOptions())))
TERMS = MatchShield(RULES, list(deny_list.patterns(DenyListOptions(terms=("project bluebird",)))))


def found(shield: MatchShield, pieces: list[str]) -> list[Finding]:
    """What a shield finds in a text that comes in pieces."""
    lane = shield.lane()
    progress = [lane.feed(piece, end=False) for piece in pieces]
    return [finding for each in [*progress, lane.feed("", end=True)] for finding in each.findings]


def terms(*words: str, case_sensitive: bool = False) -> MatchShield:
    options = DenyListOptions(terms=words, case_sensitive=case_sensitive)
    return MatchShield(RULES, list(deny_list.patterns(options)))


@settings(max_examples=400)
@given(
    st.sampled_from([(PII, CARD), (PII, EMAIL), (PII, IBAN), (PII, PHONE), (TERMS, "project bluebird")])
    | st.sampled_from([(SECRETS, "AKIAIOSFODNN7EXAMPLE"), (SECRETS, "ghp_" + "a1B2" * 9)]),
    st.data(),
    CUTS,
)
def test_what_is_disguised_is_found_where_it_stands(
    what: tuple[MatchShield, str], data: st.DataObject, cuts: list[int]
) -> None:
    """Full-width, mathematical and foreign digits, look-alikes, invisible characters and decoration hide nothing."""
    shield, secret = what
    hidden = data.draw(disguises(secret))
    before, after = data.draw(disguises("It is ")), " now"
    (finding,) = found(shield, cut(before + hidden + after, cuts))
    assert finding.start == len(before)
    # What shows nothing behind the last character that shows something may stay.
    missed = hidden[finding.end - len(before) :]
    assert all(is_mark(char) or fold(char) == "" for char in missed)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("éﬁ\u0301\u0323\u200be…½"), max_size=40), CUTS)
def test_a_view_depends_on_the_text_alone(text: str, cuts: list[int]) -> None:
    """However a text is cut, its view is the same, and every character of it comes from one that shows it."""
    whole, pieces = View(), View()
    shown = whole.feed(text)
    assert "".join(map(pieces.feed, cut(text, cuts))) == shown
    for place, char in enumerate(shown):
        origin = text[whole.origin(place)]
        assert char in (origin, *fold(origin), *unicodedata.normalize("NFKD", origin))
        assert whole.origin(place) == pieces.origin(place)
    assert whole.origin(len(shown)) == len(text)


@given(st.characters(codec="utf-8"))
def test_ordinary_characters_show_themselves(char: str) -> None:
    """What is not special may pass as it is, wherever it stands."""
    if special().search(char) is None:
        assert View().feed(char) == View(last="e").feed(char) == char


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\uff14\u00b2\u2463\u0664\U0001d7dc", "42444"),
        ("of\ufb01ce \u2116 5", "office No 5"),
        ("a\u200b\u202eb\ufe0fc\U000e0063", "abc"),
        ("рауреԝ", "paypew"),
        ("d\u0332o\u0336g\u20e3", "dog"),
        ("man\u0303ana ma\u00f1ana", "man\u0303ana man\u0303ana"),
        ("\u1ead a\u0323\u0302", "a\u0323\u0302 a\u0323\u0302"),
        ("Привет 你好 नमस्ते", "Пpивeт 你好 नमस्ते"),
    ],
)
def test_what_characters_stand_for(text: str, shown: str) -> None:
    """Forms become what they are forms of; marks stay where they make a letter; other scripts stay what they are."""
    assert View().feed(text) == shown


def test_letters_with_marks_are_other_letters() -> None:
    """A term is found however its letters are put together, and never where a mark makes it another word."""
    assert not found(terms("ano"), ["año an\u0303o"])
    assert not found(terms("ano"), ["an", "", "\u0303o"])
    assert [(each.start, each.end) for each in found(terms("año"), ["an\u0303o AÑO ano"])] == [(0, 4), (5, 8)]
    assert not found(terms("an"), ["an\u0303 ñan"])


def test_terms_of_other_scripts_are_found_in_any_case() -> None:
    """Letters whose capitals look like other Latin letters than they do themselves still mean their capitals."""
    shield = terms("мама", "Νίκη", "mama")
    assert [(each.start, each.end) for each in found(shield, ["МАМА, мама; ΝΊΚΗ νίκη"])] == [
        (0, 4),
        (6, 10),
        (12, 16),
        (17, 21),
    ]
    assert not found(terms("мама", case_sensitive=True), ["МАМА"])


def test_alternatives_of_a_term_are_what_views_show() -> None:
    """A term and its capitals, seen through a view, are among its alternatives."""
    for term in ("Straße", "ﬁx", "Ёлка", "naïve", "４２", "Việt"):
        choices = list(alternatives(term, case_sensitive=False))
        assert all(char in choice for char, choice in zip(View().feed(term), choices, strict=True))


def test_a_pile_of_marks_takes_no_memory_and_hides_nothing() -> None:
    """Hundreds of marks or invisible characters hide nothing; a hundred thousand of them end what they stand in."""
    for hidden in "\u0332\u200b":
        lane = PII.lane()
        assert lane.feed("4" + hidden * 900, end=False).watermark == 0
        (finding,) = lane.feed(CARD[1:] + " ", end=True).findings
        assert (finding.start, finding.end) == (0, 900 + len(CARD))
        lane, seen = PII.lane(), 0
        for piece in ("4", *[hidden * 500] * 200):
            seen += len(piece)
            assert seen - lane.feed(piece, end=False).watermark <= 1_500
    view = View()
    assert view.feed("e" + "\u0301\u0302" * 400) == "e\u0301"


@settings(max_examples=30)
@given(st.integers(998, 1_003), st.integers(998, 1_003), CUTS)
def test_a_pile_ends_a_match_at_the_same_place_in_every_cut(one: int, other: int, cuts: list[int]) -> None:
    """Whether characters that show nothing are too many does not depend on how they came."""
    text = "x" + "\u200b" * one + "project" + "\u200b" * other + " bluebird " + "\u0332" * other + "project bluebird"
    assert found(TERMS, cut(text, cuts)) == found(TERMS, [text])


def test_nothing_is_held_behind_what_is_clear() -> None:
    """Text in other scripts, with quotes, dashes and emoji of several characters, is released at once."""
    for shield in (PII, SECRETS, TERMS):
        lane, seen = shield.lane(), 0
        for piece in ("“Здравствуйте” — ", "你好，世界。", "👩\u200d👩\u200d👧 ❤\ufe0f ", "… naïve! ", "한국어 "):
            seen += len(piece)
            assert lane.feed(piece, end=False).watermark == seen


def test_invisible_characters_are_invisible() -> None:
    """The class of invisible characters holds no letter, digit or sign that shows something."""
    chars = re.findall(f"[{INVISIBLE}]", "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)])))
    assert {unicodedata.category(char) for char in chars} <= {"Cf", "Mn", "Lo", "Cn"}
    assert len(chars) < 500
