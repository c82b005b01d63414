"""Credentials in the formats of well-known issuers, and private keys."""

from collections.abc import Iterator
from typing import Final

from services.shield.matching.automaton import from_regex
from services.shield.matching.pattern import Pattern
from shieldmesh.profile.options import SecretKind, SecretsOptions

MAX_KEY_BLOCK: Final = 16_384
"""Code points of a private-key block that is found as one: more than an RSA key of 16,384 bits takes."""

_WORD: Final = "A-Za-z0-9"
_URL_SAFE: Final = "A-Za-z0-9_-"

_FORMATS: Final[dict[SecretKind, tuple[str, int]]] = {
    # The issuers' documented prefixes, among them all that detect-secrets knows. Each runs on as long as its characters
    # do, up to the length given.
    "aws_access_key": ("(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", 20),
    "github_token": (f"gh[pousr]_[{_WORD}]{{36,}}|github_pat_[{_WORD}_]{{22,}}", 255),
    "gitlab_token": (f"gl(pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[.{_URL_SAFE}]{{20,}}", 255),
    "slack_token": (f"xox[abeoprs]-[{_WORD}-]{{10,}}|xapp-[0-9]-[{_WORD}-]{{10,}}", 255),
    "stripe_key": (f"[sr]k_(live|test)_[{_WORD}]{{10,}}|whsec_[{_WORD}]{{32,}}", 255),
    "google_api_key": (f"AIza[{_URL_SAFE}]{{35}}", 39),
    "ai_api_key": (f"sk-[{_URL_SAFE}]{{20,}}", 255),
    "npm_token": (f"npm_[{_WORD}]{{36}}", 40),
    "pypi_token": (f"pypi-AgE[{_URL_SAFE}]{{50,}}", 512),
    "artifactory_token": (f"AKC[{_WORD}]{{10,}}", 255),
    "azure_storage_key": ("AccountKey=[A-Za-z0-9+/]{86}==", 99),
    "discord_token": (rf"[MNO][{_URL_SAFE}]{{23,27}}\.[{_URL_SAFE}]{{6}}\.[{_URL_SAFE}]{{27,38}}", 73),
    "mailchimp_key": ("[0-9a-f]{32}-us[0-9][0-9]?", 37),
    "sendgrid_key": (rf"SG\.[{_URL_SAFE}]{{22}}\.[{_URL_SAFE}]{{43}}", 69),
    "slack_webhook": (f"hooks\\.slack\\.com/(services|workflows)/[{_WORD}/_]{{10,}}", 255),
    "square_token": (f"sq0(csp|atp|idp)-[{_URL_SAFE}]{{22,}}", 255),
    "telegram_token": (f"[0-9]{{8,10}}:[{_URL_SAFE}]{{35}}", 46),
    "twilio_key": ("(AC|SK)[0-9a-f]{32}", 34),
    "url_password": ("://[^ \t\r\n:/?#@]+:[^ \t\r\n:/?#@]+@", 255),
    "jwt": (rf"eyJ[{_URL_SAFE}]{{8,}}\.eyJ[{_URL_SAFE}]{{8,}}\.[{_URL_SAFE}]*", 8_192),
}


def patterns(options: SecretsOptions) -> Iterator[Pattern]:
    """The patterns that the options ask for."""
    for kind in options.kinds:
        if kind == "private_key":
            yield _private_key()
        else:
            regex, longest = _FORMATS[kind]
            valid = _has_digit if kind in {"ai_api_key", "artifactory_token"} else None
            # No right boundary: it is better to cut a longer run than to let a credential pass because something
            # sticks to its end.
            yield Pattern(
                kind, from_regex(regex), max_length=longest, left="" if kind == "url_password" else _WORD, valid=valid
            )


def _has_digit(text: str) -> bool:
    """Tells keys from words with dashes, as in names of packages and styles."""
    return any(char in "0123456789" for char in text)


def _private_key() -> Pattern:
    r"""A block from `-----BEGIN … PRIVATE KEY-----` to its END line; without one, to the end of its base64.

    Line breaks may be written as the two characters `\n`, as in JSON. A longer block is found in its first
    MAX_KEY_BLOCK characters.
    """
    label = r"[A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----"
    inside = r"A-Za-z0-9+/=\\:,.()@_; \t\r\n"
    closed = rf"([{inside}]|-[{inside}])*-----END {label}"
    unclosed = r"(([ \t\r\n]|\\n|\\r)*[A-Za-z0-9+/=]{16,})+"
    return Pattern("private_key", from_regex(f"-----BEGIN {label}({closed}|{unclosed})"), max_length=MAX_KEY_BLOCK)
