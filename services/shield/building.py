"""Shields from checked rules and options: which class does the work of which type."""

from collections.abc import Iterable
from typing import Final

from shieldmesh.profile.options import (
    DenyListOptions,
    InvisibleOptions,
    JsonSchemaOptions,
    LanguageOptions,
    PiiOptions,
    SecretsOptions,
    ShieldOptions,
    UrlOptions,
)

from .detectors import deny_list, invisible, pii, secrets, url
from .match import MatchShield
from .matching.pattern import Pattern
from .shield import Rules, Shield
from .whole.json_schema import JsonSchemaCheck
from .whole.language import LanguageCheck
from .whole.shield import WholeShield

_AS_WRITTEN: Final = (InvisibleOptions, UrlOptions)
"""Of shields that look at a text as it is written, not at what it shows."""


def build(rules: Rules, options: ShieldOptions) -> Shield:
    """The shield that works by these rules and options."""
    match options:
        case JsonSchemaOptions():
            return WholeShield(rules, JsonSchemaCheck(options))
        case LanguageOptions():
            return WholeShield(rules, LanguageCheck(options))
        case _:
            return MatchShield(rules, tuple(_patterns(options)), normalise=not isinstance(options, _AS_WRITTEN))


def _patterns(options: ShieldOptions) -> Iterable[Pattern]:
    match options:
        case PiiOptions():
            return pii.patterns(options)
        case SecretsOptions():
            return secrets.patterns(options)
        case DenyListOptions():
            return deny_list.patterns(options)
        case InvisibleOptions():
            return invisible.patterns(options)
        case UrlOptions():
            return (url.pattern(options.allow),)
        case _:
            raise TypeError(f"no patterns for {type(options).__name__}")
