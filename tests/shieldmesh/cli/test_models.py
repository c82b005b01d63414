"""`shieldmesh models` with a real inference service."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.inference.configuration import Configuration
from shieldmesh.cli import build_app
from shieldmesh.errors import MeshError
from tests.services.inference.openai.upstream import WHOLE, answer, said, stalled, upstream
from tests.services.inference.serving import TIMEOUT, Stub, ask, generating, serving


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["models", *arguments])


def configured(*urls: str) -> Configuration:
    models: list[dict[str, Any]] = [
        {"name": "echo", "backend": "replay", "max_running": 7, "options": {"echo": True}},
        {
            "name": "qwen",
            "backend": "openai",
            "max_running": 1000,
            "options": {
                "urls": urls,
                "model": "m",
                "context_window": 4096,
                "circuit": {"failures": 1, "pause": 600},
                "retries": {"attempts": 1},
            },
        },
    ]
    return Configuration.model_validate({"models": models})


async def generate(stub: Stub, model: str) -> None:
    async with generating(stub, ask(model)) as call:
        async for _ in call:
            pass


async def test_it_shows_load_and_health(tmp_path: Path) -> None:
    """Each model with what it does now, and each endpoint with whether it is asked."""
    async with upstream(answer(*WHOLE)) as good:
        address = good.url.removeprefix("http://").removesuffix("/v1")
        async with serving(configured(good.url, "http://127.0.0.1:9/v1"), tmp_path) as stub:
            failures = 0
            while not (failures and good.heard):
                try:
                    await generate(stub, "qwen")
                except MeshError:
                    failures += 1
            tokens = 2 * len(good.heard) + 1
            good.plays = [stalled(said("one"))]
            async with asyncio.timeout(TIMEOUT), generating(stub, ask("qwen")) as call:
                while not (await anext(aiter(call))).HasField("delta"):
                    pass
                url = ("--url", f"unix:{tmp_path}/inference.sock")
                shown = await asyncio.to_thread(invoke, *url)
                told = await asyncio.to_thread(invoke, *url, "--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    head, echo, qwen, more = shown.stdout.splitlines()
    assert head.split() == ["model", "backend", "running", "waiting", "tokens", "context", "endpoints"]
    assert echo.split() == ["echo", "replay", "0/7", "0", "0", "?", "in", "the", "service"]
    assert qwen.split() == ["qwen", "openai", "1/1,000", "0", str(tokens), "4,096", address, "ready", "1", "running"]
    assert more.split() == ["127.0.0.1:9", "left", "alone"]
    assert json.loads(told.stdout)[1] == {
        "name": "qwen",
        "backend": "openai",
        "context_window": 4096,
        "running": 1,
        "waiting": 0,
        "max_running": 1000,
        "generated_tokens": tokens,
        "endpoints": [
            {"address": address, "state": "ready", "running": 1, "generated_tokens": tokens},
            {"address": "127.0.0.1:9", "state": "left_alone", "running": 0, "generated_tokens": 0},
        ],
    }


def test_without_a_service_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether none answers at the URL, or no mesh runs here."""
    gone = invoke("--url", f"unix:{tmp_path}/nobody.sock")
    assert gone.exit_code == 1
    assert f"no inference service answers at unix:{tmp_path}/nobody.sock" in gone.stderr
    monkeypatch.setattr("shieldmesh.cli.service.gettempdir", lambda: str(tmp_path))
    none = invoke()
    assert none.exit_code == 1
    assert "no mesh runs on this machine" in none.stderr
    assert "give the URL of an inference service with --url" in none.stderr
    assert invoke("--url", "ftp://x").exit_code == 2
