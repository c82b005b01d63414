"""Shields that look at whole texts: what they hold, and what is said at the end."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from services.shield.catalogue import Catalogue
from services.shield.inspection import Inspection
from services.shield.shield import Finding, Rules
from services.shield.spans import ShieldSpans
from services.shield.whole.shield import MAX_CHARACTERS, WholeShield
from shieldmesh import calls, context
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import policy_pb2, shield_pb2
from tests.services.shield.serving import TIMEOUT, converse, opening, serving, spec
from tests.services.shield.slow import Heard, hear

BLOCK = policy_pb2.ACTION_BLOCK
FLAG = policy_pb2.ACTION_FLAG

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def person(**fields: Any) -> policy_pb2.ShieldSpec:
    """A shield that sees that the text is a person."""
    return spec("json_schema", **{"action": BLOCK, "options": {"schema": PERSON}, **fields})


async def inspect(
    directory: Path, content: str, *specs: policy_pb2.ShieldSpec
) -> list[tuple[str, policy_pb2.Action.ValueType, str]]:
    """What a service says about a text: the shields with their actions, and the kinds found or the errors."""
    request = shield_pb2.InspectRequest(shields=specs, direction=policy_pb2.DIRECTION_OUTPUT, texts=[content])
    async with serving(directory) as stub:
        response = await calls.unary(stub.Inspect, request, timeout=TIMEOUT)
    return [(v.shield, v.action, v.error or ", ".join(f.kind for f in v.findings)) for v in response.verdicts]


async def listen(shield: policy_pb2.ShieldSpec, *pieces: str) -> tuple[Heard, list[int]]:
    """What a caller hears in the end, and the watermarks before."""
    marks: list[int] = []
    built = Catalogue(capacity=8, default_timeout=TIMEOUT).build(shield)
    heard = await hear([built], pieces, when=lambda clearance: marks.append(clearance.watermark))
    return heard, marks[:-1]


async def test_everything_is_held_until_the_end() -> None:
    """A shield that may block lets nothing leave before the text is complete, and then all of it."""
    heard, before = await listen(person(), '{"name"', ": ", '"Ann"}')
    assert set(before) <= {0}
    assert (heard.text, heard.verdicts) == ('{"name": "Ann"}', [])


async def test_what_is_blocked_never_leaves() -> None:
    """A text that is not of the schema is withheld from its first character on."""
    heard, _ = await listen(person(), '{"name"', ": ", "1}")
    assert (heard.text, heard.verdicts) == ("", [("json_schema", BLOCK, "schema_violation")])


async def test_a_shield_that_flags_holds_nothing() -> None:
    """Text leaves before its end, and the verdict comes behind it."""
    heard, before = await listen(person(action=FLAG), "hello", " world")
    assert 5 in before
    assert (heard.text, heard.verdicts) == ("hello world", [("json_schema", FLAG, "not_json")])


@pytest.mark.parametrize("action", [FLAG, policy_pb2.ACTION_REDACT, BLOCK])
async def test_an_empty_text_is_judged(tmp_path: Path, action: policy_pb2.Action.ValueType) -> None:
    """Nothing at all is no JSON either."""
    assert await inspect(tmp_path, "", person(action=action)) == [("json_schema", action, "not_json")]


async def test_redaction_replaces_the_whole_text(tmp_path: Path) -> None:
    """What is wrong as a whole is replaced as a whole."""
    request = shield_pb2.InspectRequest(
        shields=[person(action=policy_pb2.ACTION_REDACT, placeholder="null")],
        direction=policy_pb2.DIRECTION_OUTPUT,
        texts=["no json"],
    )
    async with serving(tmp_path) as stub:
        response = await calls.unary(stub.Inspect, request, timeout=TIMEOUT)
    assert [(edit.start, edit.end, edit.replacement) for edit in response.edits] == [(0, 7, "null")]


@pytest.mark.parametrize(("on_error", "action"), [("CLOSED", BLOCK), ("OPEN", FLAG)])
async def test_a_text_that_cannot_be_checked_fails_the_shield(tmp_path: Path, on_error: str, action: int) -> None:
    """Its policy decides what that means."""
    deep = person(on_error=policy_pb2.OnError.Value(f"ON_ERROR_{on_error}"))
    assert await inspect(tmp_path, "[" * 300 + "]" * 300, deep) == [("json_schema", action, "TEXT_TOO_DEEP")]


@pytest.mark.parametrize(
    ("shield", "field"),
    [
        (spec("json_schema"), "open.shields[0].options.schema"),
        (spec("json_schema", options={"schema": {"type": "person"}}), "open.shields[0].options.schema"),
        (spec("json_schema", options={"schema": {"pattern": r"(a)\1"}}), "open.shields[0].options.schema"),
        (spec("language", options={"allow": ["klingon"]}), "open.shields[0].options.allow[0]"),
        (spec("language", options={"allow": []}), "open.shields[0].options.allow"),
    ],
)
async def test_options_that_cannot_work_are_refused(tmp_path: Path, shield: policy_pb2.ShieldSpec, field: str) -> None:
    """A schema or a language that is none is an error with its place, before any text."""
    async with serving(tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await converse(stub, [opening(shield)])
    assert caught.value.field == field


class Recorder:
    """A check that finds nothing and remembers where and for whom it worked."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[int] = set()
        self.turns: set[str] = set()

    def __call__(self, text: str) -> Iterable[Finding]:
        self.texts.append(text)
        self.threads.add(threading.get_ident())
        self.turns.add(context.current().request_id)
        return ()


def shield(check: Recorder) -> WholeShield:
    """A blocking shield that runs a check."""
    return WholeShield(Rules("check", BLOCK, {}, fails_open=False, timeout=TIMEOUT, kind="whole"), check)


async def test_a_text_of_ten_megabytes_is_not_gathered() -> None:
    """It fails the shield when it is longer than what can be checked: the check never sees it."""
    check = Recorder()
    with ShieldSpans([shield(check)]) as spans:
        async with Inspection([shield(check)], spans) as inspection:
            async with asyncio.timeout(TIMEOUT):
                release = await inspection.inspect("x" * 10_000_000)
    assert [failure.error for failure in release.failures] == ["TEXT_TOO_LONG"]
    assert release.blocked
    assert not check.texts


async def test_the_longest_text_is_checked_once() -> None:
    """However many pieces it came in, the check sees all of it, in a thread, in the context of its turn."""
    check = Recorder()
    with ShieldSpans([shield(check)]) as spans, context.use(context.RequestContext(request_id="t-1")):
        async with Inspection([shield(check)], spans) as inspection:
            async with asyncio.timeout(TIMEOUT):
                release = await inspection.inspect("x" * MAX_CHARACTERS)
    assert (release.watermark, release.blocked) == (MAX_CHARACTERS, False)
    assert [len(text) for text in check.texts] == [MAX_CHARACTERS]
    assert threading.get_ident() not in check.threads
    assert check.turns == {"t-1"}
