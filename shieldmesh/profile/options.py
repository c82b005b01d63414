"""The types of built-in shields, and the options each one takes.

The profile loader and the shield service both validate with these models, so a policy that loads is one that runs.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

PiiKind = Literal["email", "phone", "payment_card", "iban"]
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
    "jwt",
    "private_key",
]
Term = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]

PII_KINDS: Final[tuple[PiiKind, ...]] = ("email", "phone", "payment_card", "iban")
SECRET_KINDS: Final[tuple[SecretKind, ...]] = (
    "aws_access_key",
    "github_token",
    "gitlab_token",
    "slack_token",
    "stripe_key",
    "google_api_key",
    "ai_api_key",
    "npm_token",
    "pypi_token",
    "jwt",
    "private_key",
)
MAX_TERMS: Final = 50_000


class ShieldOptions(BaseModel):
    """Options of a type of shield; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_region(region: str) -> str:
    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("expected a region of two capitals, such as US or DE, or nothing")
    return region


class PiiOptions(ShieldOptions):
    """Options of `pii`."""

    kinds: tuple[PiiKind, ...] = Field(default=PII_KINDS, min_length=1)
    """What to look for."""
    region: Annotated[str, AfterValidator(_known_region)] = ""
    """Whose national phone numbers count, such as US. Empty: only numbers that begin with + or 00."""


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


@dataclass(frozen=True, slots=True)
class ShieldType:
    """Describes a type of built-in shield."""

    name: str
    kind: Literal["match", "window", "whole"]
    description: str
    finding_kinds: tuple[str, ...]
    options: type[ShieldOptions]


SHIELD_TYPES: Final = {
    each.name: each
    for each in (
        ShieldType(
            "deny_list",
            "match",
            "Finds words and phrases of a list.",
            ("denied_term",),
            DenyListOptions,
        ),
        ShieldType(
            "pii",
            "match",
            "Finds e-mail addresses, phone numbers, payment cards and IBANs.",
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
    )
}
"""The built-in types by name."""
