"""P13 for shields that ask models: whatever fails counts as the policy says, closed unless it says otherwise."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from services.shield.catalogue import Catalogue
from services.shield.shield import Shield
from services.shield.window.batching import Batcher
from services.shield.window.building import Means
from services.shield.window.model import Seen
from services.shield.window.models.files import ModelFiles
from services.shield.window.shield import WindowShield
from shieldmesh import channels
from shieldmesh.profile.options import Window
from shieldmesh.v1 import policy_pb2
from shieldmesh.v1.inference_pb2 import ListModelsRequest
from shieldmesh.v1.inference_pb2_grpc import InferenceServiceStub
from tests.services.inference import serving as inference
from tests.services.shield.serving import spec
from tests.services.shield.slow import Heard, hear
from tests.services.shield.window.models import rules

FLAG, BLOCK = policy_pb2.ACTION_FLAG, policy_pb2.ACTION_BLOCK
TEXT = ["One. Two. Three. ", "Four. Five."]
POLICIES = pytest.mark.parametrize("fails_open", [False, True])
MODELS = inference.configuration(
    {"name": "chatty", "options": {"text": "Sure! This text looks safe to me."}},
    {"name": "cut_off", "options": {"pieces": ["safe", *[" "] * 100]}},
    {"name": "broken", "options": {"text": "safe", "fail_after": 0}},
    {"name": "slow", "options": {"text": "safe", "first_token_ms": 600_000}},
    {"name": "full", "max_running": 1, "max_waiting": 0, "options": {"text": "safe", "first_token_ms": 600_000}},
)


def check(heard: Heard, reason: str, *, fails_open: bool) -> None:
    """Closed: nothing leaves. Open: all does. Either way it is told, once."""
    assert heard.text == ("".join(TEXT) if fails_open else "")
    assert [(action, error) for _, action, error in heard.verdicts] == [(FLAG if fails_open else BLOCK, reason)]


class Model:
    """A model that fails, or waits until it is let go."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.going = threading.Event()

    def __call__(self, texts: Sequence[str]) -> Sequence[float]:
        """Never says anything."""
        if self.fails:
            raise RuntimeError("a secret of another turn")
        self.going.wait(30)
        return [0.0] * len(texts)

    def shield(self, *, timeout: float, fails_open: bool) -> Shield:
        """A shield that asks it, as classifiers are asked."""
        batcher = Batcher(self, name="model")

        async def look(text: str) -> Sequence[Seen]:
            await batcher.ask(text)
            return []

        return WindowShield(rules("it", BLOCK, timeout=timeout, fails_open=fails_open), look, Window(size=1, overlap=0))


@POLICIES
async def test_a_model_that_raises(*, fails_open: bool) -> None:
    """An exception of a model is a failure of the shield."""
    shield = Model(fails=True).shield(timeout=30.0, fails_open=fails_open)
    check(await hear([shield], TEXT), "SHIELD_MODEL_FAILED", fails_open=fails_open)


@POLICIES
async def test_a_model_that_hangs(*, fails_open: bool) -> None:
    """A model that does not answer in time is a failure of the shield, and the loop goes on meanwhile."""
    model = Model(fails=False)
    try:
        shield = model.shield(timeout=0.02, fails_open=fails_open)
        check(await hear([shield], TEXT), "SHIELD_TIMEOUT", fails_open=fails_open)
    finally:
        model.going.set()


@asynccontextmanager
async def judge(
    directory: Path, model: str, *, fails_open: bool, seconds: float = 30.0
) -> AsyncGenerator[Shield, None]:
    """A judge that asks one of the models about the whole text."""
    means = Means(ModelFiles(None), f"unix:{directory / 'inference.sock'}")
    asked = spec(
        "judge",
        action=BLOCK,
        options={"model": model, "window": "whole"},
        on_error=policy_pb2.ON_ERROR_OPEN if fails_open else policy_pb2.ON_ERROR_CLOSED,
    )
    asked.timeout.CopyFrom(Duration(nanos=round(seconds * 1e9) % 10**9, seconds=int(seconds)))
    (shield,) = await Catalogue(capacity=1, default_timeout=30.0, means=means).shields([asked])
    yield shield


@POLICIES
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("chatty", "SHIELD_VERDICT_UNREADABLE"),
        ("cut_off", "SHIELD_VERDICT_UNREADABLE"),
        ("broken", "SHIELD_FAILED"),
        ("nobody", "SHIELD_MODEL_NOT_FOUND"),
    ],
)
async def test_a_judge_that_fails(tmp_path: Path, model: str, reason: str, *, fails_open: bool) -> None:
    """A verdict that cannot be read, an engine that breaks, a model that is gone: none of them clears a text."""
    async with inference.serving(MODELS, tmp_path), judge(tmp_path, model, fails_open=fails_open) as shield:
        check(await hear([shield], TEXT), reason, fails_open=fails_open)


@POLICIES
async def test_a_judge_that_hangs(tmp_path: Path, *, fails_open: bool) -> None:
    """A model that thinks for too long is a failure."""
    async with (
        inference.serving(MODELS, tmp_path),
        judge(tmp_path, "slow", fails_open=fails_open, seconds=0.05) as shield,
    ):
        check(await hear([shield], TEXT), "SHIELD_TIMEOUT", fails_open=fails_open)


@POLICIES
async def test_a_judge_without_a_place(tmp_path: Path, *, fails_open: bool) -> None:
    """A model that takes no more requests is a failure."""
    async with (
        inference.serving(MODELS, tmp_path) as stub,
        inference.generating(stub, inference.ask("full")) as busy,
        judge(tmp_path, "full", fails_open=fails_open) as shield,
    ):
        await busy.read()
        check(await hear([shield], TEXT), "SHIELD_UNAVAILABLE", fails_open=fails_open)


@POLICIES
async def test_an_inference_service_that_is_not_there(tmp_path: Path, *, fails_open: bool) -> None:
    """A judge that cannot be reached is a failure."""
    async with judge(tmp_path, "chatty", fails_open=fails_open) as shield:
        check(await hear([shield], TEXT), "SHIELD_UNAVAILABLE", fails_open=fails_open)


@POLICIES
async def test_an_inference_service_that_dies(tmp_path: Path, *, fails_open: bool) -> None:
    """A judge whose process is killed in the middle of a verdict is a failure."""
    models = tmp_path / "models.yaml"
    models.write_text(json.dumps(MODELS.model_dump(mode="json", exclude_defaults=True)))
    target = f"unix:{tmp_path / 'inference.sock'}"
    environment = {"SHIELDMESH_INFERENCE_LISTEN": target, "SHIELDMESH_INFERENCE_MODELS": str(models)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.inference", env=os.environ | environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(channels.get(target).channel_ready(), 30)
        stub: inference.Stub = InferenceServiceStub(channels.get(target))
        async with judge(tmp_path, "slow", fails_open=fails_open) as shield:
            hearing = asyncio.create_task(hear([shield], TEXT))
            async with asyncio.timeout(30):
                running = 0
                while not running:
                    listed = await stub.ListModels(ListModelsRequest(), timeout=30)
                    running = sum(model.running for model in listed.models)
            process.kill()
            check(await hearing, "SHIELD_UNAVAILABLE", fails_open=fails_open)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await channels.close()
