"""What is JSON of a schema, and what is not."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.shield.shield import ShieldError
from services.shield.whole.json_schema import MAX_DEPTH, JsonSchemaCheck
from services.shield.whole.shield import MAX_CHARACTERS
from shieldmesh.profile.options import JSON_SCHEMA_KINDS, JsonSchemaOptions

SURROGATE = "\ud800"


def check(schema: Any) -> JsonSchemaCheck:
    return JsonSchemaCheck(JsonSchemaOptions.model_validate({"schema": schema}))


def kinds(text: str, schema: Any = True) -> list[str]:
    return [finding.kind for finding in check(schema)(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "Ann"}', []),
        ('  {"name": "Ann", "more": [1.5e3, null, true]}\n', []),
        ('{"name": 1}', ["schema_violation"]),
        ("{}", ["schema_violation"]),
        ("[]", ["schema_violation"]),
        ("", ["not_json"]),
        ("   ", ["not_json"]),
        ('{"name": "Ann"', ["not_json"]),
        ('{"name": "Ann"} and more', ["not_json"]),
        ('```json\n{"name": "Ann"}\n```', ["not_json"]),
    ],
)
def test_texts_and_a_schema(text: str, expected: list[str]) -> None:
    """Texts of the schema pass; the others are told apart by whether they are JSON at all."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    findings = check(schema)(text)
    assert [finding.kind for finding in findings] == expected
    assert all((finding.start, finding.end, finding.score) == (0, len(text), 1.0) for finding in findings)
    assert set(expected) <= set(JSON_SCHEMA_KINDS)


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "user", "role": "admin"}',
        "NaN",
        "-Infinity",
        "1e400",
        "1" * 10_000,
        f'["{SURROGATE}"]',
        '["\\ud800"]',
        '{"\\uDFFF": ""}',
        "\ufeff{}",
        "[1,]",
        "{'a': 1}",
        "01",
    ],
)
def test_what_parsers_read_differently_is_no_json(text: str) -> None:
    """A text that another reader could take for something else, or refuse, does not pass."""
    schema = {"items": {"type": "string"}, "additionalProperties": {"type": "string"}}
    assert kinds(text, schema) == ["not_json"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_what_json_writes_is_json(value: Any) -> None:
    """Whatever Python's own writer makes, of valid text, passes a schema that allows all."""
    assert kinds(json.dumps(value)) == []
    assert kinds(json.dumps(value, ensure_ascii=False)) == []


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_is_bounded(depth: int) -> None:
    """Brackets in strings do not count, those outside do, up to the limit."""
    text = "[" * depth + '"[[[[\\"[[[["' + "]" * depth
    recursive = {"items": {"$ref": "#"}}
    if depth > MAX_DEPTH:
        with pytest.raises(ShieldError) as caught:
            check(recursive)(text)
        assert caught.value.reason == "TEXT_TOO_DEEP"
    else:
        assert kinds(text, recursive) == []


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * (MAX_CHARACTERS // 2 - 1),
        '"' * MAX_CHARACTERS,
        "[" * MAX_CHARACTERS,
        '["' + "x" * (MAX_CHARACTERS - 5) + '!"]',
        "[" + ",".join(["[]"] * 500_000) + "]",
    ],
    ids=["escapes", "quotes", "brackets", "pattern", "arrays"],
)
def test_hostile_texts_are_checked_in_linear_time(text: str) -> None:
    """The longest texts, written to be slow, end (a quadratic check would run for hours)."""
    slow = check({"items": {"type": ["string", "array"], "pattern": "^(x+x+)+y$"}})
    with suppress(ShieldError):
        slow(text)


def test_references_that_lead_nowhere_end() -> None:
    """A schema that means itself neither hangs nor takes the process down."""
    assert kinds("[[1]]", {"$ref": "#"}) == []
    assert kinds("[[1]]", {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}) == []


def test_references_fetch_nothing(tmp_path: Path) -> None:
    """A schema that lies in a file of the machine is not read."""
    (tmp_path / "schema.json").write_text("{}")
    with pytest.raises(ValidationError, match="not outside"):
        check({"$ref": f"file://{tmp_path}/schema.json"})


def test_formats_are_not_checked() -> None:
    """As the draft has it, `format` is a note."""
    assert kinds('"nobody"', {"format": "email"}) == []


def test_large_numbers_keep_their_digits() -> None:
    """What the profile says travels as it was written."""
    schema = {"const": 12345678901234567891}
    assert kinds("12345678901234567891", schema) == []
    assert kinds("12345678901234567890", schema) == ["schema_violation"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "person"}, "at type: "),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "at properties.a.pattern: "),
        ({"pattern": "(a{1000}){1000}"}, "of moderate size"),
        ({"$ref": "http://127.0.0.1/schema"}, "not outside"),
        ({"$ref": "file:///etc/hostname"}, "not outside"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "expected https://json-schema.org/draft/2020-12/schema",
        ),
        ("{", "it is not JSON"),
        ('"text"', "expected a map"),
        (5, "expected a map"),
        (None, "expected a map"),
        ("[" * 100_000, "nested too deeply"),
        ({"description": "x" * 200_000}, "at most 200,000 characters"),
        ({"const": float("inf")}, "not JSON compliant"),
    ],
)
def test_schemas_that_are_none_are_refused(schema: Any, message: str) -> None:
    """The error says what is wrong and where in the schema."""
    with pytest.raises(ValidationError) as caught:
        check(schema)
    (error,) = caught.value.errors()
    assert error["loc"] == ("schema",)
    assert message in error["msg"]
