"""ShieldService over a real socket: what it answers, and how it refuses what it cannot use."""

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from shieldmesh import calls
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import policy_pb2, shield_pb2

from .examples import CARD, EMAIL
from .serving import MAX_CHARACTERS, TIMEOUT, converse, opening, serving, spec, text

OUTPUT = policy_pb2.DIRECTION_OUTPUT
REDACT, BLOCK = policy_pb2.ACTION_REDACT, policy_pb2.ACTION_BLOCK
UNKNOWN_ACTION = policy_pb2.ShieldSpec.FromString(b"\x0a\x01a\x12\x03pii\x18\x63")  # the type allows no 99


async def test_inspect_reports_each_text_and_shield(tmp_path: Path) -> None:
    """Verdicts come by text, then by shield; edits by text and start; findings never carry the text."""
    request = shield_pb2.InspectRequest(
        shields=[spec(), spec("secrets", action=BLOCK)],
        direction=OUTPUT,
        texts=[f"{EMAIL} and {CARD}", "nothing", f"AKIAIOSFODNN7EXAMPLE {EMAIL}"],
    )
    async with serving(tmp_path) as stub:
        response = await calls.unary(stub.Inspect, request, timeout=TIMEOUT)
    told = [(each.text_index, each.shield, each.action, len(each.findings)) for each in response.verdicts]
    assert told == [(0, "pii", REDACT, 2), (2, "secrets", BLOCK, 1)]
    assert [(each.text_index, each.start, each.end, each.replacement) for each in response.edits] == [
        (0, 0, 20, "[EMAIL]"),
        (0, 25, 44, "[PAYMENT_CARD]"),
    ]
    assert EMAIL not in str(response)


async def test_a_stream_clears_text_as_it_comes(tmp_path: Path) -> None:
    """What could still become a match is held under the name of its shield, the rest is cleared at once."""
    requests = [opening(spec()), text("Write to "), text("jane", 9), text("@example.com", 13), text("", 25, end=True)]
    async with serving(tmp_path) as stub:
        clearances = await converse(stub, requests)
    assert [(each.watermark, each.seen, list(each.holding)) for each in clearances] == [
        (9, 9, []),
        (9, 13, ["pii"]),
        (9, 25, ["pii"]),
        (25, 25, []),
    ]
    assert [(each.start, each.end, each.replacement) for each in clearances[-1].edits] == [(9, 25, "[EMAIL]")]
    assert [(each.shield, each.action, each.direction) for each in clearances[-1].verdicts] == [("pii", REDACT, OUTPUT)]


async def test_lanes_are_texts_of_their_own(tmp_path: Path) -> None:
    """Halves of a card in two lanes are no card, and each lane has its own offsets."""
    half = CARD[:9]
    requests = [
        opening(spec()),
        text(half),
        text(CARD[9:], lane=63),
        text(".", 9, end=True),
        text(CARD[9:], 10, lane=63),
    ]
    async with serving(tmp_path) as stub:
        clearances = await converse(stub, requests)
    assert [(each.lane, each.watermark) for each in clearances] == [(0, 0), (63, 6), (0, 10), (63, 16)]
    assert not any(each.edits for each in clearances)


async def test_a_block_is_the_last_thing_said(tmp_path: Path) -> None:
    """The watermark stops where the finding starts, the verdict says why, and the stream ends with OK."""
    deny = spec("deny_list", action=BLOCK, options={"terms": ["bluebird"]})
    async with serving(tmp_path) as stub, calls.bidi(stub.InspectStream, timeout=TIMEOUT) as call:
        for request in (opening(deny), text("about Bluebird, "), text("and more", 16)):
            await call.write(request)
        answers = [answer async for answer in call]
    assert [answer.WhichOneof("response") for answer in answers] == ["opened", "clearance"]
    assert answers[1].clearance.watermark == 6
    assert [(each.shield, each.action) for each in answers[1].clearance.verdicts] == [("deny_list", BLOCK)]


async def test_no_shields_means_that_everything_passes(tmp_path: Path) -> None:
    """An empty set clears all text at once."""
    async with serving(tmp_path) as stub:
        assert [each.watermark for each in await converse(stub, [opening(), text(CARD)])] == [len(CARD)]


@pytest.mark.parametrize(
    ("field", "shield"),
    [
        ("open.shields[1].name", spec("secrets", name="No spaces")),
        ("open.shields[1].name", spec("secrets", name="pii")),
        ("open.shields[1].type", spec("magic")),
        ("open.shields[1].action", spec("secrets", action=policy_pb2.ACTION_UNSPECIFIED)),
        ("open.shields[1].action", UNKNOWN_ACTION),
        ("open.shields[1].action_by_kind", spec("secrets", action_by_kind={"email": BLOCK})),
        ("open.shields[1].action_by_kind[jwt]", spec("secrets", action_by_kind={"jwt": policy_pb2.ACTION_UNSPECIFIED})),
        ("open.shields[1].timeout", spec("secrets", timeout=Duration(seconds=-1))),
        ("open.shields[1].timeout", spec("secrets", timeout=Duration(seconds=61))),
        ("open.shields[1].options.kinds[0]", spec("secrets", options={"kinds": ["email"]})),
        ("open.shields[1].options.kind", spec("secrets", options={"kind": ["jwt"]})),
        ("open.shields[1].options", spec("secrets", options={"kinds": [float("nan")]})),
        ("open.shields[1].parts", policy_pb2.ShieldSpec.FromString(b"\x0a\x01a\x12\x03pii\x18\x04\x50\x63")),
        ("open.shields[1].options.region", spec("pii", name="b", options={"region": "us"})),
        ("open.shields[1].options.terms", spec("deny_list")),
        ("open.shields[1].options.terms", spec("deny_list", options={"terms": []})),
        ("open.shields[1].options.terms[0]", spec("deny_list", options={"terms": [" "]})),
    ],
)
async def test_shields_that_cannot_be_built_are_refused(
    tmp_path: Path, field: str, shield: policy_pb2.ShieldSpec
) -> None:
    """A specification that is wrong is refused with its place, before anything is answered."""
    async with serving(tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await converse(stub, [opening(spec(), shield), text("hello")])
    assert (caught.value.reason, caught.value.field) == ("SHIELD_SET_INVALID", field)


@pytest.mark.parametrize(
    ("field", "requests"),
    [
        ("open", [text("hello")]),
        ("open", []),
        ("open.direction", [opening(direction=policy_pb2.DIRECTION_UNSPECIFIED)]),
        ("open.shields", [opening(*(spec(name=f"s{number}") for number in range(65)))]),
        ("open", [opening(), opening()]),
        ("request", [opening(), shield_pb2.InspectStreamRequest()]),
        ("text.lane", [opening(), text("hello", lane=64)]),
        ("text.lane", [opening(), text("hello", end=True), text("more", 5)]),
        ("text.offset", [opening(), text("hello"), text("hello")]),
        ("text.offset", [opening(), text("hello", 1)]),
        ("text.text", [opening(), text("x" * MAX_CHARACTERS), text("x", lane=1)]),
    ],
)
async def test_requests_out_of_order_or_range_are_refused(
    tmp_path: Path, field: str, requests: list[shield_pb2.InspectStreamRequest]
) -> None:
    """A stream that does not keep to the contract ends with the field that is wrong; the next one is served."""
    async with serving(tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await converse(stub, requests)
        assert caught.value.field == field
        assert await converse(stub, [opening(), text("hello")])


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("direction", shield_pb2.InspectRequest()),
        ("texts", shield_pb2.InspectRequest(direction=OUTPUT, texts=["x" * MAX_CHARACTERS, "x"])),
        ("shields[0].type", shield_pb2.InspectRequest(direction=OUTPUT, shields=[spec("magic")])),
    ],
)
async def test_inspections_that_cannot_be_made_are_refused(
    tmp_path: Path, field: str, request_: shield_pb2.InspectRequest
) -> None:
    """A request that is wrong is refused with its field."""
    async with serving(tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await calls.unary(stub.Inspect, request_, timeout=TIMEOUT)
    assert caught.value.field == field


async def test_types_of_shields_are_listed(tmp_path: Path) -> None:
    """Each type says what it looks for and which kinds it reports."""
    async with serving(tmp_path) as stub:
        response = await calls.unary(stub.ListShields, shield_pb2.ListShieldsRequest(), timeout=TIMEOUT)
    kinds = {each.type: each.kind for each in response.types}
    assert list(kinds) == sorted(kinds)
    assert kinds.items() >= {"deny_list": "match", "json_schema": "whole", "language": "whole", "pii": "match"}.items()
    assert all(each.description for each in response.types)
    assert next(each.finding_kinds for each in response.types if each.type == "url") == ["url"]


async def test_a_shield_looks_at_the_parts_that_its_policy_names(tmp_path: Path) -> None:
    """Text of other parts passes it at once, also where it would hold the whole; a type has parts of its own."""
    reasoning = policy_pb2.TEXT_PART_REASONING
    schema = spec("json_schema", action=BLOCK, options={"schema": "true"})
    requests = [
        opening(schema, spec("secrets"), spec(name="pii", parts=[reasoning])),
        text(f"Let me see: {EMAIL} ", part=reasoning),
        text(f"{EMAIL} ", lane=1),
    ]
    async with serving(tmp_path) as stub:
        aloud, content = await converse(stub, requests)
    assert [(aloud.watermark, len(aloud.edits)), (content.watermark, list(content.holding))] == [
        (33, 1),
        (0, ["json_schema"]),
    ]
