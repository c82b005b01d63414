"""What the built-in shields see, and what they leave alone."""

import pytest

from services.shield.detectors import deny_list, pii, secrets
from services.shield.match import MatchShield
from services.shield.shield import Rules
from shieldmesh.profile.options import DenyListOptions, PiiOptions, SecretsOptions
from shieldmesh.v1 import policy_pb2

from .examples import IBAN, KEY

RULES = Rules("it", policy_pb2.ACTION_REDACT, {}, fails_open=False, timeout=1.0)
PII = MatchShield(RULES, list(pii.patterns(PiiOptions())))
US = MatchShield(RULES, list(pii.patterns(PiiOptions(kinds=("phone",), region="US"))))
SECRETS = MatchShield(RULES, list(secrets.patterns(SecretsOptions())))


def seen(shield: MatchShield, text: str) -> list[tuple[str, str]]:
    """Kind and text of each finding."""
    findings = shield.lane().feed(text, end=True).findings
    return [(finding.kind, text[finding.start : finding.end]) for finding in sorted(findings, key=lambda f: f.start)]


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("Mail jane.doe+x@mail.example.co.uk.", "email", "jane.doe+x@mail.example.co.uk"),
        ("<jörg@münchen.de>", "email", "jörg@münchen.de"),
        ("an@example.com1", "email", "an@example.com"),
        ("+1 (415) 555-2671!", "phone", "+1 (415) 555-2671"),
        ("+44 (0)20 7946 0958", "phone", "+44 (0)20 7946 0958"),
        ("+39 06 698 12345", "phone", "+39 06 698 12345"),
        ("0049 30 901820", "phone", "0049 30 901820"),
        ("+33 6 12 34 56 78", "phone", "+33 6 12 34 56 78"),
        ("4111111111111111", "payment_card", "4111111111111111"),
        ("no4111-1111-1111-1111x", "payment_card", "4111-1111-1111-1111"),
        ("1234 4111 1111 1111 1111 99", "payment_card", "4111 1111 1111 1111"),
        ("378282246310005", "payment_card", "378282246310005"),
        (f"({IBAN})", "iban", IBAN),
        (IBAN.replace(" ", "").lower(), "iban", IBAN.replace(" ", "").lower()),
    ],
)
def test_personal_data_is_seen(text: str, kind: str, found: str) -> None:
    """Each kind is found in the forms in which people write it."""
    assert seen(PII, text) == [(kind, found)]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "041111111111111110",
        "9999 9999 9999 9995",
        "DE89 3704 0044 0532 0130 01",
        "user@localhost",
        "+1 2 3 4 5 6 7 8 9 0 1",
        "2024-10-21 08:07",
        "call 4155552671",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    """Wrong check digits, unknown card networks, longer runs of digits, dates and bare digits are no findings."""
    assert seen(PII, text) == []


def test_national_numbers_need_their_region() -> None:
    """With a region its numbers count, in its grouping or without any."""
    for number in ("(415) 555-2671", "415-555-2671", "4155552671", "1-415-555-2671"):
        assert seen(US, f"call {number} now") == [("phone", number)]
    for other in ("2024-10-21 08", "41-5555-2671", "030 901820", "1234567"):
        assert seen(US, other) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("aws_access_key", "AKIAIOSFODNN7EXAMPLE"),
        ("github_token", "ghp_" + "a1B2" * 9),
        ("github_token", "github_pat_" + "a1B2_" * 10),
        ("gitlab_token", "glpat-" + "a1B2" * 5),
        ("slack_token", "xoxb-" + "1234567890-abc"),
        ("stripe_key", "sk_live_" + "a1B2" * 6),
        ("google_api_key", "AIza" + "a1B2_" * 7),
        ("ai_api_key", "sk-ant-api03-" + "a1B2" * 8),
        ("npm_token", "npm_" + "a1B2" * 9),
        ("pypi_token", "pypi-AgEIcHlwaS5vcmc" + "a1B2" * 12),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"),
        ("private_key", KEY),
        ("private_key", KEY.replace("\n", "\\n")),
        ("private_key", KEY.replace("RSA ", "").partition("\nqwerty")[0]),
    ],
)
def test_secrets_are_seen(kind: str, text: str) -> None:
    """Each format is found, whatever sticks to its end, and a private key also without its last line."""
    assert seen(SECRETS, f"it is '{text}'.") == [(kind, text)]


@pytest.mark.parametrize(
    "text",
    ["sk-learn-is-a-library-of-models", "-----BEGIN PRIVATE KEY----- begins a key", "AKIA", "xAKIAIOSFODNN7EXAMPLE"],
)
def test_what_only_looks_like_a_secret_is_left_alone(text: str) -> None:
    """Words with dashes, talk about keys, and pieces are no findings."""
    assert seen(SECRETS, text) == []


def test_terms_count_as_whole_words_in_any_case() -> None:
    """A term is found in any case where no letter touches it; one that ends in a sign may be followed by anything."""
    shield = MatchShield(RULES, list(deny_list.patterns(DenyListOptions(terms=("Straße", "c++", "new york", "new")))))
    text = "STRAßE c++11 New York newer (new)"
    assert [found for _, found in seen(shield, text)] == ["STRAßE", "c++", "New York", "new"]


def test_terms_can_be_told_apart_by_case_and_found_inside_words() -> None:
    """Both limits can be lifted."""
    options = DenyListOptions(terms=("Fox",), case_sensitive=True, whole_words=False)
    shield = MatchShield(RULES, list(deny_list.patterns(options)))
    assert [found for _, found in seen(shield, "fox Foxy")] == ["Fox"]


def test_thousands_of_terms_are_one_automaton() -> None:
    """A long list finds its terms, each of them."""
    terms = tuple(f"term{number}" for number in range(5_000))
    shield = MatchShield(RULES, list(deny_list.patterns(DenyListOptions(terms=terms))))
    assert [found for _, found in seen(shield, " ".join(terms[::100]))] == list(terms[::100])
