"""Texts that must be JSON of a schema.

Strict where parsers differ, so that what was checked is what every reader of the text will read: a name that stands
twice in an object, numbers beyond a double, NaN and halves of surrogate pairs are no JSON here (as in RFC 7493).
"""

import json
import math
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NoReturn

from pydantic import JsonValue

from services.shield.shield import Finding, ShieldError
from shieldmesh.profile.options import JsonSchemaOptions
from shieldmesh.profile.options.whole import compiled

MAX_DEPTH: Final = 200
"""Arrays and objects inside one another; more could overrun the stack of whoever reads the text."""

# Strings may lack their end: a search that can fail there would begin anew at every quotation mark.
_NO_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[^][{}"]+', re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_STEPS: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


class JsonSchemaCheck:
    """Finds texts that are no JSON, or not of the schema. A finding is the whole text."""

    def __init__(self, options: JsonSchemaOptions) -> None:
        self._validator = compiled(options.json_schema)

    def __call__(self, text: str) -> Sequence[Finding]:
        """What is wrong with the text.

        Raises:
            ShieldError: it is nested too deeply to be looked at.
        """
        if _depth(text) > MAX_DEPTH:
            raise ShieldError("TEXT_TOO_DEEP")
        try:
            kind = "" if self._validator.is_valid(_value(text)) else "schema_violation"
        except ValueError:
            kind = "not_json"
        return [Finding(kind, 0, len(text), 1.0)] if kind else []


def _value(text: str) -> JsonValue:
    value: JsonValue = json.loads(text, object_pairs_hook=_object, parse_float=_number, parse_constant=_refuse)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # fails where one half stands alone
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is beyond a double")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _depth(text: str) -> int:
    return max(accumulate(_STEPS[bracket] for bracket in _NO_BRACKETS.sub("", text)), default=0)
