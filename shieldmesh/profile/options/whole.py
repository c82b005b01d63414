"""Shields of the kind whole: they look at a text when it is complete."""

import json
from typing import Annotated, Final, NoReturn

import jsonschema_rs
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue

from .base import ShieldOptions, ShieldType

JSON_SCHEMA_KINDS: Final = ("not_json", "schema_violation")
MAX_SCHEMA: Final = 200_000
"""Characters of a schema written as JSON."""
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_CODES: Final = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv "
    "fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la "
    "lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se "
    "si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu"
)
LANGUAGES: Final = frozenset(_CODES.split())
"""The languages that can be told, by ISO 639: those that py3langid knows."""


def compiled(schema: str) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema in JSON. Its patterns take time in proportion to a text, and no format is checked.

    Raises:
        ValueError: it is no schema of draft 2020-12, or one that this mesh does not take; the message says where.
    """
    try:
        content: JsonValue = json.loads(schema)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict | bool):
        raise ValueError("expected a map, or true or false")  # noqa: TRY004  # pydantic reports this one
    draft = content.get("$schema", DRAFT) if isinstance(content, dict) else DRAFT
    if str(draft).rstrip("#") != DRAFT:
        raise ValueError(f"at $schema: expected {DRAFT}, or nothing")
    try:
        return jsonschema_rs.Draft202012Validator(
            content, pattern_options=jsonschema_rs.RegexOptions(), validate_formats=False, retriever=_refuse
        )
    except jsonschema_rs.ValidationError as error:
        place = ".".join(map(str, error.instance_path))
        raise ValueError(f"at {place}: {_reason(error)}" if place else _reason(error)) from None


def _refuse(uri: str) -> NoReturn:
    raise LookupError(uri)


def _reason(error: jsonschema_rs.ValidationError) -> str:
    message = error.message
    if message.endswith('is not a "regex"'):
        return f"{message} of linear time (no look-around, no back-references) and of moderate size"
    if "retrieving it failed" in message:
        return f"{message.partition(' is not present')[0]}: references lead to places in the schema itself, not outside"
    return message


def _as_json(schema: JsonValue) -> JsonValue:
    """A schema written as YAML, in the JSON in which it travels: numbers keep all their digits."""
    try:
        return schema if isinstance(schema, str) else json.dumps(schema, allow_nan=False)
    except TypeError:
        raise ValueError("it holds a value that JSON does not know, such as a date: put it in quotes") from None


def _checked(schema: str) -> str:
    if len(schema) > MAX_SCHEMA:
        raise ValueError(f"a schema has at most {MAX_SCHEMA:,} characters, this one has {len(schema):,}")
    compiled(schema)
    return schema


class JsonSchemaOptions(ShieldOptions):
    """Options of `json_schema`."""

    model_config = ConfigDict(serialize_by_alias=True)

    json_schema: Annotated[str, BeforeValidator(_as_json), AfterValidator(_checked)] = Field(alias="schema")
    """The schema that the text must be of, as a map or as JSON."""


def _known(language: str) -> str:
    if language not in LANGUAGES:
        raise ValueError("expected a language by ISO 639, such as en or de, of those that docs/shields.md lists")
    return language


class LanguageOptions(ShieldOptions):
    """Options of `language`."""

    allow: tuple[Annotated[str, AfterValidator(_known)], ...] = Field(min_length=1, max_length=len(LANGUAGES))
    """The languages that a text may be in."""
    min_letters: int = Field(default=20, ge=1, le=10_000)
    """Texts with fewer letters are too short to tell."""
    confidence: float = Field(default=0.9, ge=0.5, le=1)
    """How sure it must be; findings with lower scores are none."""


WHOLE_TYPES: Final = (
    ShieldType(
        "json_schema",
        "whole",
        "Finds texts that are not JSON of a schema.",
        JSON_SCHEMA_KINDS,
        JsonSchemaOptions,
        parts=("content",),
    ),
    ShieldType(
        "language",
        "whole",
        "Finds texts in other languages than those that are allowed.",
        ("other_language",),
        LanguageOptions,
        parts=("content",),
    ),
)
"""The types that look at whole texts; the options of each stand above."""
