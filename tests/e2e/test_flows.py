"""The worked examples of flows, with real processes and the real model."""

import json
from collections.abc import Generator

import pytest
from typer.testing import CliRunner

import shieldmesh
from shieldmesh.cli import build_app
from tests.e2e.mesh import ROOT, Mesh, running

LIMIT = 120.0
"""Seconds after which a test that hangs fails."""


@pytest.fixture(scope="module")
def examples() -> Generator[Mesh]:
    """A mesh as docs/flows.md starts it."""
    flows = {"SHIELDMESH_ORCHESTRATOR_FLOWS": '["examples.flows"]'}
    with running(profiles=ROOT / "examples" / "profiles", environment=flows) as mesh:
        yield mesh


@pytest.mark.parametrize(
    ("profile", "modules"),
    [
        ("refine", ["module smollm2", "module smollm2"]),
        ("choose", ["module bold", "module smollm2", "module sober"]),
        ("route", ["module classifier", "module smollm2"]),
    ],
)
def test_an_example_runs_and_shows_its_calls(examples: Mesh, profile: str, modules: list[str]) -> None:
    """Each answers, is charged for all of its calls, and `shieldmesh trace` shows each of them with its engine."""
    short = None if profile == "choose" else shieldmesh.Sampling(max_tokens=8)
    with shieldmesh.connect_sync(examples.url) as mesh:
        result = mesh.chat("How do I boil an egg?", profile=profile, sampling=short, timeout=LIMIT).result()
    assert result.text
    shown = CliRunner().invoke(build_app(), ["trace", "--url", examples.url, "--json", result.started.turn_id])
    rows = json.loads(shown.stdout)["spans"]
    names = [row["name"] for row in rows]
    assert [name for name in names if name.startswith("flow ")] == [f"flow {profile}"]
    assert sorted(name for name in names if name.startswith("module ")) == modules
    assert names.count("engine") == len(modules)
    usage = result.finished.usage
    tokens = [int(row["attributes"]["gen_ai.usage.output_tokens"]) for row in rows if row["name"] == "engine"]
    assert usage.completion_tokens == sum(tokens)
    assert usage.prompt_tokens > 0
