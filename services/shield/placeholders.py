"""What takes the place of what is redacted: the policy's templates, filled in."""

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Sequence
from typing import Final

from .shield import Finding, Rules

PSEUDONYM: Final = "{pseudonym}"
_LENGTH: Final = 6
_GROUPING: Final = re.compile(r"(?<=\d)[\s().-]+(?=\d)")


class Placeholders:
    """The placeholders of one text.

    Attributes:
        keeps: Whether it must be told of the text, as pseudonyms may be needed for it.
    """

    def __init__(self, rules: Sequence[Rules], key: bytes) -> None:
        """Texts under the same key give the same value the same pseudonym; an empty key is replaced by chance."""
        self._templates = [each.placeholder for each in rules]
        self.keeps = any(PSEUDONYM in template for template in self._templates)
        self._key = key or (secrets.token_bytes(16) if self.keeps else b"")
        self._text = ""
        self._start = 0

    def keep(self, text: str) -> None:
        """Takes the next piece of the text."""
        self._text += text

    def forget(self, offset: int) -> None:
        """Lets go of the text before an offset."""
        if offset > self._start:
            self._text = self._text[offset - self._start :]
            self._start = offset

    def name(self, shield: int, finding: Finding) -> str:
        """What takes the place of a finding."""
        template = self._templates[shield].replace("{kind}", finding.kind.upper())
        if PSEUDONYM not in template:
            return template
        value = self._text[finding.start - self._start : finding.end - self._start]
        return template.replace(PSEUDONYM, pseudonym(self._key, value))


def pseudonym(key: bytes, value: str) -> str:
    """Six letters and digits for a value: an HMAC-SHA256 under the turn's key, cut to 30 bits.

    Writing the value in other letter case or width, or its digits in other groups, does not change it.
    """
    plain = _GROUPING.sub("", unicodedata.normalize("NFKC", value).casefold())
    digest = hmac.digest(key, plain.encode(errors="surrogatepass"), hashlib.sha256)
    return base64.b32encode(digest)[:_LENGTH].decode().lower()
