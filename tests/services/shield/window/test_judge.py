"""The shield `judge`: a model of the mesh is asked, and its verdict is read strictly."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from services.shield.catalogue import Catalogue
from services.shield.shield import Shield, ShieldError
from services.shield.window.asking import Answer
from services.shield.window.building import Means
from services.shield.window.judge import JUDGING, verdict
from services.shield.window.models.files import ModelFiles
from shieldmesh import context
from shieldmesh.context import RequestContext
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import policy_pb2
from tests.promises.observing import observed
from tests.services.inference import serving as inference
from tests.services.inference.serving import configuration
from tests.services.shield.serving import spec
from tests.services.shield.slow import hear

BLOCK, REDACT = policy_pb2.ACTION_BLOCK, policy_pb2.ACTION_REDACT
MODELS = configuration(
    {"name": "echo", "options": {"echo": True}},
    {"name": "kind", "options": {"text": "safe"}},
    {"name": "chatty", "options": {"text": "I think that this text is safe."}},
    {"name": "endless", "options": {"pieces": ["safe", *[" "] * 500]}},
    {"name": "broken", "options": {"text": "safe", "fail_after": 0}},
    {"name": "slow", "max_running": 1, "max_waiting": 0, "options": {"text": "safe", "first_token_ms": 600_000}},
)


@asynccontextmanager
async def judging(tmp_path: Path) -> AsyncGenerator[Catalogue, None]:
    """A catalogue whose judges are scripted: `echo` answers with what it was asked about."""
    async with inference.serving(MODELS, tmp_path):
        yield catalogue(tmp_path)


def catalogue(tmp_path: Path) -> Catalogue:
    """A catalogue that looks for its judges in a directory's socket."""
    means = Means(ModelFiles(None), f"unix:{tmp_path / 'inference.sock'}")
    return Catalogue(capacity=8, default_timeout=30.0, means=means)


async def judge(models: Catalogue, model: str = "echo", window: str = "whole", **fields: Any) -> Shield:
    """A shield that blocks what its model calls unsafe."""
    asked = spec("judge", options={"model": model, "window": window}, **{"action": BLOCK, **fields})
    (shield,) = await models.shields([asked])
    return shield


async def test_an_unsafe_text_is_told_with_its_categories(tmp_path: Path) -> None:
    """The categories of the verdict are the kinds of findings; a safe text leaves."""
    async with judging(tmp_path) as models:
        shield = await judge(models)
        assert (await hear([shield], ["safe"])).text == "safe"
        blocked = await hear([shield], ["uns", "afe\nS1"])
        redacted = await hear([await judge(models, action=REDACT)], ["uns", "afe\nS9,", "S14"])
    assert (blocked.text, blocked.verdicts) == ("", [("judge", BLOCK, "S1")])
    assert sorted(redacted.verdicts) == [("judge", REDACT, "S14"), ("judge", REDACT, "S9")]


async def test_it_judges_sentence_by_sentence(tmp_path: Path) -> None:
    """With windows of sentences, what a window leaves behind leaves before the text has ended."""
    async with judging(tmp_path) as models:
        shield = await judge(models, "kind", "sentences")
        cleared: list[int] = []
        heard = await hear(
            [shield], ["One. Two. Three. Four. ", "Five."], when=lambda each: cleared.append(each.watermark)
        )
    assert heard.text == "One. Two. Three. Four. Five."
    assert len("One. Two. Three.") in cleared


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Safe",
        "safe.",
        "unsafe",
        "unsafe S1",
        "unsafe\nS15",
        "unsafe\nS1,",
        "unsafe\nviolence",
        "safe\nunsafe\nS1",
        "safe unsafe\nS1",
    ],
)
def test_a_verdict_is_read_strictly(text: str) -> None:
    """Anything but `safe`, or `unsafe` with known categories below it, is a failure and never a guess."""
    with pytest.raises(ShieldError, match=r"^SHIELD_VERDICT_UNREADABLE$"):
        verdict(Answer(text, complete=True))


@pytest.mark.parametrize("text", ["safe", "unsafe\nS1"])
def test_a_verdict_that_was_cut_off_is_none(text: str) -> None:
    """What the model would have said next could have been another category, or not safe at all."""
    assert verdict(Answer(f" {text}\n", complete=True)) is not None
    with pytest.raises(ShieldError, match=r"^SHIELD_VERDICT_UNREADABLE$"):
        verdict(Answer(text, complete=False))


async def test_a_judge_is_never_judged(tmp_path: Path) -> None:
    """A call that a judge made asks no judge again."""
    async with judging(tmp_path) as models:
        shield = await judge(models)
        with context.use(RequestContext(values=MappingProxyType({JUDGING: "other"}))):
            heard = await hear([shield], ["safe"])
    assert heard.verdicts == [("judge", BLOCK, "SHIELD_JUDGE_JUDGED")]


async def test_its_call_belongs_to_the_turn(tmp_path: Path) -> None:
    """The model works under the turn's identity and trace, and the tokens are counted once, for the judge."""
    with observed() as seen:
        async with judging(tmp_path) as models:
            shield = await judge(models)
            with context.use(RequestContext(session_id="s", request_id="t", tenant_id="acme", profile="p")):
                await hear([shield], ["safe"])
        (engine,) = (span for span in seen.spans.ended if span.name == "engine")
        asked = next(span for span in seen.spans.ended if span.name == "shield judge")
        counted = seen.sums("gen_ai.client.token.usage", "gen_ai.token.type")
    traces = {span.context.trace_id for span in (engine, asked) if span.context}
    assert len(traces) == 1
    cost = engine.attributes or {}
    assert counted == {
        "input": cost["gen_ai.usage.input_tokens"],
        "cache_read": cost["gen_ai.usage.cache_read.input_tokens"],
        "output": cost["gen_ai.usage.output_tokens"],
    }
    assert counted["output"] == 1
    assert seen.warnings() == []


async def test_no_inference_service_is_told_at_once() -> None:
    """A judge where nobody can be asked is a mistake of the policy, told with its place."""
    with pytest.raises(InvalidArgumentError, match="set SHIELDMESH_SHIELD_INFERENCE") as refused:
        await judge(Catalogue(capacity=1, default_timeout=1.0))
    assert refused.value.field == "shields[0].options.model"


async def test_a_judge_that_is_left_is_stopped(tmp_path: Path) -> None:
    """When nobody waits for a verdict any more, the engine stops, and another text gets its place."""
    async with judging(tmp_path) as models:
        shield = await judge(models, "slow", timeout=Duration(nanos=50_000_000))
        assert (await hear([shield], ["a"])).verdicts == [("judge", BLOCK, "SHIELD_TIMEOUT")]
        async with asyncio.timeout(30):
            while (await hear([shield], ["b"])).verdicts != [("judge", BLOCK, "SHIELD_TIMEOUT")]:
                pass  # its only place is taken until it has stopped
