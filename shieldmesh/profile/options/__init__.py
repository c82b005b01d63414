"""The types of built-in shields, and the options each one takes, a file for each group of them.

The profile loader and the shield service both validate with these models, so a policy that loads is one that runs. A
new type has its options and its `ShieldType` in a file here, is added to `SHIELD_TYPES` below, and has an entry in
`shieldmesh.profile.policy`.
"""

from typing import Final

from .base import TEXT_PARTS, Kind, ShieldOptions, ShieldType, TextPart
from .patterns import (
    INVISIBLE_KINDS,
    MAX_HOSTS,
    MAX_TERMS,
    PATTERN_TYPES,
    PII_KINDS,
    SECRET_KINDS,
    Country,
    DenyListOptions,
    InvisibleKind,
    InvisibleOptions,
    PiiKind,
    PiiOptions,
    SecretKind,
    SecretsOptions,
    UrlOptions,
)
from .remote import REMOTE_TYPES, KindFrom, RemoteOptions, remote_url
from .whole import JSON_SCHEMA_KINDS, LANGUAGES, WHOLE_TYPES, JsonSchemaOptions, LanguageOptions
from .window import (
    INJECTION_KINDS,
    JUDGE_KINDS,
    WINDOW_TYPES,
    ClassifierOptions,
    InjectionKind,
    InjectionOptions,
    JudgeKind,
    JudgeOptions,
    KindName,
    Window,
)

_TYPES: Final = (*PATTERN_TYPES, *REMOTE_TYPES, *WHOLE_TYPES, *WINDOW_TYPES)
SHIELD_TYPES: Final = {each.name: each for each in sorted(_TYPES, key=lambda type_: type_.name)}
"""The built-in types by name."""

__all__ = [
    "INJECTION_KINDS",
    "INVISIBLE_KINDS",
    "JSON_SCHEMA_KINDS",
    "JUDGE_KINDS",
    "LANGUAGES",
    "MAX_HOSTS",
    "MAX_TERMS",
    "PII_KINDS",
    "SECRET_KINDS",
    "SHIELD_TYPES",
    "TEXT_PARTS",
    "ClassifierOptions",
    "Country",
    "DenyListOptions",
    "InjectionKind",
    "InjectionOptions",
    "InvisibleKind",
    "InvisibleOptions",
    "JsonSchemaOptions",
    "JudgeKind",
    "JudgeOptions",
    "Kind",
    "KindFrom",
    "KindName",
    "LanguageOptions",
    "PiiKind",
    "PiiOptions",
    "RemoteOptions",
    "SecretKind",
    "SecretsOptions",
    "ShieldOptions",
    "ShieldType",
    "TextPart",
    "UrlOptions",
    "Window",
    "remote_url",
]
