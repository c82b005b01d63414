"""Shields from checked rules and options: which class does the work of which type."""

from collections.abc import Iterable
from typing import Final

from shieldmesh.profile.options import (
    ClassifierOptions,
    DenyListOptions,
    InjectionOptions,
    InvisibleOptions,
    JsonSchemaOptions,
    JudgeOptions,
    LanguageOptions,
    PiiOptions,
    RemoteOptions,
    SecretsOptions,
    ShieldOptions,
    UrlOptions,
)

from .detectors import deny_list, invisible, pii, secrets, url
from .match import MatchShield
from .matching.pattern import Pattern
from .remote.detector import DetectorShield
from .remote.remotes import SETTING, Remotes
from .remote.service import ServiceShield
from .shield import Rules, Shield
from .whole.json_schema import JsonSchemaCheck
from .whole.language import LanguageCheck
from .whole.shield import WholeShield
from .window.building import Means, WindowOptions, window_shield
from .window.models.files import ModelError

_AS_WRITTEN: Final = (InvisibleOptions, UrlOptions)
"""Of shields that look at a text as it is written, not at what it shows."""


class OptionError(Exception):
    """An option is right, but not in this service.

    Attributes:
        option: Its name.
        message: What to do.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.message = message


def build(rules: Rules, options: ShieldOptions, remotes: Remotes, means: Means) -> Shield:
    """The shield that works by these rules and options.

    Raises:
        OptionError: this service cannot work by them.
    """
    match options:
        case RemoteOptions():
            return _remote(rules, options, remotes)
        case ClassifierOptions() | InjectionOptions() | JudgeOptions():
            return _window(rules, options, means)
        case JsonSchemaOptions():
            return WholeShield(rules, JsonSchemaCheck(options))
        case LanguageOptions():
            return WholeShield(rules, LanguageCheck(options))
        case _:
            return MatchShield(rules, tuple(_patterns(options)), normalise=not isinstance(options, _AS_WRITTEN))


def _remote(rules: Rules, options: RemoteOptions, remotes: Remotes) -> Shield:
    if not remotes.allow(options.url):
        raise OptionError("url", f"this service may not call it: add it, or what it lies below, to {SETTING}")
    kind = DetectorShield if options.is_detector else ServiceShield
    return kind(rules, options, remotes)


def _window(rules: Rules, options: WindowOptions, means: Means) -> Shield:
    try:
        return window_shield(rules, options, means)
    except ModelError as error:
        raise OptionError(error.option, error.message) from None


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
