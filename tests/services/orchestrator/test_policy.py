"""What of a policy reaches the other services, and what the receipt says of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shieldmesh import context
from shieldmesh.v1 import policy_pb2, shield_pb2
from tests.services.orchestrator.serving import (
    Answers,
    Asked,
    Generated,
    Script,
    Texts,
    cleared,
    clears,
    greets,
    guards,
    opened,
    passes,
    profile,
    run,
    serving,
)


def named(placeholder: str) -> dict[str, Any]:
    """A way's shields with this placeholder."""
    return {"shields": [{"type": "pii", "action": "redact", "placeholder": placeholder}]}


class Witness:
    """Notes how the shield service is asked."""

    def __init__(self) -> None:
        self.inputs: list[shield_pb2.InspectRequest] = []
        self.opens: list[shield_pb2.InspectOpen] = []
        self.script = Script(inspect=self._inspect, inspect_stream=self._inspect_stream)

    async def _inspect(self, request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        self.inputs.append(request)
        return await passes(request)

    async def _inspect_stream(self, requests: Texts) -> Answers:
        async def watched() -> Texts:
            async for request in requests:
                if request.HasField("open"):
                    self.opens.append(request.open)
                yield request

        async for answer in clears(watched()):
            yield answer


async def test_one_key_of_pseudonyms_for_both_ways_of_a_turn(tmp_path: Path) -> None:
    """A placeholder with a pseudonym on one way is enough; every turn has a key of its own."""
    witness = Witness()
    policy = profile(input=guards("flag"), output=named("[{kind}_{pseudonym}]"))
    async with serving(witness.script, tmp_path, policy) as stub:
        for _ in range(2):
            await run(stub)
    keys = [request.pseudonym_key for request in witness.inputs]
    assert [len(key) for key in keys] == [16, 16]
    assert keys[0] != keys[1]
    assert sorted(keys) == sorted(opening.pseudonym_key for opening in witness.opens)


async def test_no_key_where_no_placeholder_needs_one(tmp_path: Path) -> None:
    """What nobody needs is not made, nor sent."""
    witness = Witness()
    async with serving(witness.script, tmp_path, profile(input=guards("flag"), output=named("[{kind}]"))) as stub:
        await run(stub)
    assert (witness.inputs[0].pseudonym_key, witness.opens[0].pseudonym_key) == (b"", b"")


async def test_the_latency_budget_goes_to_the_shields(tmp_path: Path) -> None:
    """The service that makes text wait is told how long it may; without a budget, nothing."""
    witness = Witness()
    budget = {"time": 0.25, "over": "fail"}
    one, other = profile("one", output={**guards(), "latency_budget": budget}), profile("other", output=guards())
    async with serving(witness.script, tmp_path, one, other) as stub:
        await run(stub, profile="one")
        await run(stub, profile="other")
    assert witness.opens[0].latency_budget.time.ToMilliseconds() == 250
    assert witness.opens[0].latency_budget.over == shield_pb2.OVER_BUDGET_FAIL
    assert not witness.opens[1].HasField("latency_budget")


async def test_the_version_of_the_policy_travels(tmp_path: Path) -> None:
    """Every service that a turn calls knows under which policy it works."""
    seen: list[str] = []

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        seen.append(context.current().profile_version)
        return await passes(request)

    async def inspect_stream(requests: Texts) -> Answers:
        seen.append(context.current().profile_version)
        async for answer in clears(requests):
            yield answer

    async def generate(requests: Asked) -> Generated:
        seen.append(context.current().profile_version)
        async for event in greets(requests):
            yield event

    policy = profile(input=guards("flag"), output=guards())
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=generate)
    async with serving(script, tmp_path, policy) as stub:
        first, *_ = await run(stub)
    assert seen == [policy.version] * 3
    assert first.started.profile_version == policy.version


def failed(error: str, direction: policy_pb2.Direction.ValueType) -> policy_pb2.Verdict:
    """A shield failed, and its policy lets the text pass."""
    return policy_pb2.Verdict(shield="pii", direction=direction, action=policy_pb2.ACTION_FLAG, error=error)


@pytest.mark.parametrize(
    ("error", "over", "covering"),
    [
        ("SHIELD_TIMEOUT", "hold", ["url"]),
        ("LATENCY_BUDGET", "hold", ["pii", "url"]),
        ("LATENCY_BUDGET", "degrade", ["url"]),
    ],
)
async def test_the_receipt_names_the_shields_that_did_their_work(
    tmp_path: Path, error: str, over: str, covering: Sequence[str]
) -> None:
    """A shield that failed, or for which the text no longer waited, has not covered it; one that is only late has."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        del request
        return shield_pb2.InspectResponse(verdicts=[failed("SHIELD_FAILED", policy_pb2.DIRECTION_INPUT)])

    async def inspect_stream(requests: Texts) -> Answers:
        await anext(requests)
        yield opened()
        async for request in requests:
            verdict = failed(error, policy_pb2.DIRECTION_OUTPUT)
            yield cleared(request.text.offset + len(request.text.text), verdicts=[verdict])

    both = {"shields": [{"type": name, "action": "block"} for name in ("pii", "url")]}
    policy = profile(input=both, output={**both, "latency_budget": {"time": 1, "over": over}})
    async with serving(Script(inspect=inspect, inspect_stream=inspect_stream), tmp_path, policy) as stub:
        *_, last = await run(stub)
    assert list(last.finished.receipt.input_shields) == ["url"]
    assert list(last.finished.receipt.output_shields) == covering
