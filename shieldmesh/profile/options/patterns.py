"""Shields of the kind match: they look for patterns."""

from typing import Annotated, Final, Literal, get_args

import phonenumbers
from pydantic import AfterValidator, Field, StringConstraints

from .base import ShieldOptions, ShieldType

PiiKind = Literal["email", "phone", "payment_card", "iban", "ip_address", "national_id"]
Country = Literal["de", "es", "fr", "gb", "it", "nl", "us"]
SecretKind = Literal[
    "aws_access_key",
    "github_token",
    "gitlab_token",
    "slack_token",
    "stripe_key",
    "google_api_key",
    "ai_api_key",
    "npm_token",
    "pypi_token",
    "artifactory_token",
    "azure_storage_key",
    "discord_token",
    "mailchimp_key",
    "sendgrid_key",
    "slack_webhook",
    "square_token",
    "telegram_token",
    "twilio_key",
    "url_password",
    "jwt",
    "private_key",
]
InvisibleKind = Literal["zero_width", "bidi_control", "tag_characters", "variation_selectors"]
Term = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]

PII_KINDS: Final[tuple[PiiKind, ...]] = get_args(PiiKind)
SECRET_KINDS: Final[tuple[SecretKind, ...]] = get_args(SecretKind)
INVISIBLE_KINDS: Final[tuple[InvisibleKind, ...]] = get_args(InvisibleKind)
MAX_TERMS: Final = 50_000
MAX_HOSTS: Final = 10_000


def _known_region(region: str) -> str:
    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("expected a region of two capitals, such as US or DE, or nothing")
    return region


def _plain_host(host: str) -> str:
    # The host as it stands in a URL: not one of its parts more.
    if not host.isascii() or not host.strip(".-").replace(".", "").replace("-", "").isalnum():
        raise ValueError("expected the name of a host alone, such as example.com (with xn-- for other scripts)")
    return host.lower().strip(".")


Host = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(_plain_host)]


class PiiOptions(ShieldOptions):
    """Options of `pii`."""

    kinds: tuple[PiiKind, ...] = Field(default=PII_KINDS, min_length=1)
    """What to look for."""
    region: Annotated[str, AfterValidator(_known_region)] = ""
    """Whose national phone numbers count, such as US. Empty: only numbers that begin with + or 00."""
    countries: tuple[Country, ...] = ()
    """Whose national ids count; none means that `national_id` finds nothing."""


class SecretsOptions(ShieldOptions):
    """Options of `secrets`."""

    kinds: tuple[SecretKind, ...] = Field(default=SECRET_KINDS, min_length=1)
    """What to look for."""


class DenyListOptions(ShieldOptions):
    """Options of `deny_list`."""

    terms: tuple[Term, ...] = Field(min_length=1, max_length=MAX_TERMS)
    """What must not be said: words or phrases, each found literally."""
    case_sensitive: bool = False
    whole_words: bool = True
    """Whether a term counts only where no letter, digit or underscore touches it."""


class UrlOptions(ShieldOptions):
    """Options of `url`."""

    allow: tuple[Host, ...] = Field(default=(), max_length=MAX_HOSTS)
    """Hosts that may be linked to, with all below them: `example.com` allows `docs.example.com` too."""


class InvisibleOptions(ShieldOptions):
    """Options of `invisible`."""

    kinds: tuple[InvisibleKind, ...] = Field(default=INVISIBLE_KINDS, min_length=1)
    """What to look for."""


PATTERN_TYPES: Final = (
    ShieldType(
        "deny_list",
        "match",
        "Finds words and phrases of a list.",
        ("denied_term",),
        DenyListOptions,
    ),
    ShieldType(
        "invisible",
        "match",
        "Finds characters that show nothing, and with which text can be smuggled or turned around.",
        INVISIBLE_KINDS,
        InvisibleOptions,
        removes=True,
    ),
    ShieldType(
        "pii",
        "match",
        "Finds e-mail addresses, phone numbers, payment cards, IBANs, IP addresses and national ids.",
        PII_KINDS,
        PiiOptions,
    ),
    ShieldType(
        "secrets",
        "match",
        "Finds access tokens of well-known formats and private keys.",
        SECRET_KINDS,
        SecretsOptions,
    ),
    ShieldType(
        "url",
        "match",
        "Finds URLs whose host is not on a list.",
        ("url",),
        UrlOptions,
    ),
)
"""The types that look for patterns; the options of each follow above."""
