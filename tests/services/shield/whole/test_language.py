"""Which language a text is in."""

from typing import Any

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from services.shield.whole.language import LanguageCheck
from services.shield.whole.shield import MAX_CHARACTERS
from shieldmesh.profile.options import LANGUAGES, LanguageOptions

ENGLISH = "The museum opens at nine, and on Sundays you can visit it without paying."
GERMAN = "Das Museum öffnet um neun Uhr, und am Sonntag kann man es kostenlos besuchen."
CHINESE = "博物馆每天早上九点开门星期天可以免费参观请记得提前在网上预约门票。"


def scores(text: str, *allow: str, **options: Any) -> list[float]:
    """The scores of what is found; sees that it is the whole text."""
    findings = LanguageCheck(LanguageOptions.model_validate({"allow": allow or ["en"], **options}))(text)
    assert all((each.kind, each.start, each.end) == ("other_language", 0, len(text)) for each in findings)
    return [each.score for each in findings]


@pytest.mark.parametrize(
    ("text", "allow", "found"),
    [
        (ENGLISH, ["en"], False),
        (ENGLISH, ["de"], True),
        (ENGLISH, ["de", "en"], False),
        (GERMAN, ["en"], True),
        (GERMAN, ["de"], False),
        (CHINESE, ["en", "de"], True),
        (CHINESE, ["zh"], False),
    ],
)
def test_a_text_and_the_languages_that_are_allowed(text: str, allow: list[str], found: bool) -> None:
    """A text in another language is found, with a score of at least the confidence."""
    assert [score >= 0.9 for score in scores(text, *allow)] == [True] * found


@pytest.mark.parametrize("text", ["", " ", "42 + 7 = 49", "Ja, gerne.", "\ud800\udfff" * 50, "€" * 1_000, "\0" * 100])
def test_texts_without_enough_letters_are_in_no_language(text: str) -> None:
    """Nothing can be said about them, so nothing is."""
    assert scores(text) == []


def test_how_short_is_too_short_is_an_option() -> None:
    """The letters count, not what stands between them."""
    assert scores("Das ist schön ......", min_letters=12) == []
    assert scores(GERMAN, min_letters=len(GERMAN)) == []
    assert scores(GERMAN, min_letters=40)


def test_less_sure_findings_need_less_confidence() -> None:
    """A text that could be in several languages is found only if its policy asks for it."""
    unsure = "print(item) for item in range(10): total += item"
    assert scores(unsure, "de", confidence=1) == []
    assert scores(unsure, "de", confidence=0.5)


@pytest.mark.parametrize("text", [GERMAN + " \ud800 " + GERMAN, GERMAN * (MAX_CHARACTERS // len(GERMAN))])
def test_odd_and_long_texts_are_told_too(text: str) -> None:
    """Halves of surrogate pairs and millions of characters change nothing."""
    assert scores(text)


def test_the_list_of_languages_is_the_model_s() -> None:
    """What the options allow is what the library can tell."""
    model: Any = LanguageIdentifier  # it has no types of its own
    assert set(model.from_model_file(MODEL_FILE).labels) - {"zxx"} == LANGUAGES
