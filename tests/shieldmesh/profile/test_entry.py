"""A shield's entry says what is done about which findings, or what is wrong with it."""

import pytest

from shieldmesh import profile
from shieldmesh.v1 import policy_pb2
from tests.shieldmesh.profile.writing import parse, problems


def entry(fields: str) -> str:
    """A profile with one shield, whose fields begin in line 5."""
    return f"model: a\noutput:\n  shields:\n  - type: pii\n    {fields}"


def spec(fields: str) -> policy_pb2.ShieldSpec:
    return profile.shield_spec(parse(entry(fields)).output.shields[0])


def test_actions_by_score_become_thresholds() -> None:
    """A scale for all findings and one for a kind are thresholds, an action for a kind stays one."""
    got = spec("action: {block: 0.9, flag: 0.5}\n    actions: {email: {redact: 0.2}, phone: flag}")
    assert [(each.kind, each.score, each.action) for each in got.thresholds] == [
        ("", 0.5, policy_pb2.ACTION_FLAG),
        ("", 0.9, policy_pb2.ACTION_BLOCK),
        ("email", 0.2, policy_pb2.ACTION_REDACT),
    ]
    assert dict(got.action_by_kind) == {"phone": policy_pb2.ACTION_FLAG}


def test_a_server_without_thresholds_takes_the_strictest_action() -> None:
    """The plain action, which thresholds replace, is the strictest of them: who overlooks them is on the safe side."""
    assert spec("action: {flag: 0.5, block: 0.9}").action == policy_pb2.ACTION_BLOCK
    assert not spec("action: redact").thresholds


def test_what_may_redact_or_hold_is_known_of_scales_too() -> None:
    """Actions by score count with all that they may come to."""
    flagging, blocking, redacting = (
        parse(entry(fields)).output.shields[0]
        for fields in ("action: {flag: 0.5}", "action: flag\n    actions: {email: {block: 1}}", "action: {redact: 0}")
    )
    assert [each.may_hold for each in (flagging, blocking, redacting)] == [False, True, True]
    assert [each.may_redact for each in (flagging, blocking, redacting)] == [False, False, True]


@pytest.mark.parametrize(
    ("scale", "problem"),
    [
        ("{block: 1.5}", ".block: input should be less than or equal to 1"),
        ("{block: -0.1}", ".block: input should be greater than or equal to 0"),
        ("{block: .nan}", ".block: input should be a finite number"),
        ("{block: high}", ".block: input should be a valid number, unable to parse string as a number"),
        ("{allow: 0.1}", ".allow: there is no such field here"),
        ("{}", ": expected at least one action with its least score, such as {block: 0.9, flag: 0.5}"),
        ("7", ": input should be 'allow', 'flag', 'redact' or 'block'"),
        (
            "{block: 0.5, flag: 0.5}",
            ": block from 0.5 on leaves nothing to flag from 0.5 on: a stricter action needs a higher score",
        ),
        (
            "{block: 0.9, redact: 0.2, flag: 0.4}",
            ": redact from 0.2 on leaves nothing to flag from 0.4 on: a stricter action needs a higher score",
        ),
    ],
)
def test_scales_that_say_nothing_are_refused(scale: str, problem: str) -> None:
    """Scores lie between 0 and 1 and rise with the strictness; else the place and the mistake are told."""
    assert problems(entry(f"action: {scale}")) == [f"p.yaml:5: output.shields[0].action{problem}"]
    both = entry(f"action: flag\n    actions: {{email: {scale}}}")
    assert problems(both) == [f"p.yaml:6: output.shields[0].actions.email{problem}"]


def test_placeholders_as_they_are_written() -> None:
    """One that is not given is left to the server; an empty one is told from that."""
    assert not spec("action: redact").HasField("placeholder")
    assert spec("action: redact\n    placeholder: ''").HasField("placeholder")
    assert spec("action: redact\n    placeholder: '[{kind}_{pseudonym}]'").placeholder == "[{kind}_{pseudonym}]"


@pytest.mark.parametrize("placeholder", ["{value}", "{kind!r}", "{kind:>9}", "{", "}", "{{kind}}", "{}"])
def test_placeholders_have_two_fields(placeholder: str) -> None:
    """Braces that stand for neither kind nor pseudonym are refused: nobody would fill them."""
    assert problems(entry(f"action: redact\n    placeholder: '{placeholder}'")) == [
        "p.yaml:6: output.shields[0].placeholder: braces stand for {kind} or {pseudonym} alone: leave others out"
    ]


def test_placeholders_are_short() -> None:
    """At most 64 code points, however many bytes these are."""
    assert spec(f"action: redact\n    placeholder: {'█' * 64}").placeholder == "█" * 64
    assert problems(entry(f"action: redact\n    placeholder: {'█' * 65}")) == [
        "p.yaml:6: output.shields[0].placeholder: string should have at most 64 characters"
    ]
