"""What a turn costs in work that can be counted; `benchmarks/` measures the time that it takes."""

import contextlib
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from opentelemetry.trace import SpanKind

import shieldmesh
from shieldmesh.telemetry import Name

from .promises.mesh import TIMEOUT, Mesh, deny, running
from .promises.observing import observed

TOKENS: Final = 40
ENGINE: Final[dict[str, Any]] = {
    "models": [{"name": "engine", "backend": "replay", "options": {"pieces": [" word"] * TOKENS}}]
}
OURS: Final = tuple(str(Path(__file__).parents[1] / name) for name in ("gateway", "services", "shieldmesh"))
GUARDED: Final[dict[str, Any]] = {
    "model": "engine",
    "input": {"shields": [deny("nightfall")]},
    "output": {"shields": [deny("nightfall")]},
}


async def test_a_turn_is_five_calls_and_a_token_one_message_a_hop(tmp_path: Path) -> None:
    """Beside the tokens, a hop says at most that it began and ended; and a turn leaves a bounded number of spans."""
    with observed() as seen:
        async with running(tmp_path, profiles={"default": GUARDED}, models=ENGINE) as mesh, mesh.client as client:
            await client.chat("hi", timeout=TIMEOUT).result()
            await mesh.idle()
    served = [span for span in seen.spans.ended if span.kind is SpanKind.SERVER]
    sent = Counter[str]()
    for span in served:
        messages = (span.attributes or {})[Name.MESSAGES_SENT]
        assert isinstance(messages, int)
        sent[span.name.rpartition("/")[2]] += messages
    assert sent.keys() == {"Chat", "Generate", "Inspect", "InspectStream"}
    assert len(served) == 5
    assert sent["Chat"] <= 2 * (TOKENS + 2)
    assert sent["Generate"] <= TOKENS + 2
    assert sent["InspectStream"] <= TOKENS + 2
    assert len(seen.spans.ended) <= 14


async def test_a_turn_is_a_bounded_number_of_calls_of_our_functions(tmp_path: Path) -> None:
    """Five calls, their shields and one token, in all services and the client; generators as context managers count."""
    models = {"models": [{"name": "one", "backend": "replay", "options": {"pieces": [" word"]}}]}
    profiles = {"one": {**GUARDED, "model": "one"}}
    async with running(tmp_path, profiles=profiles, models=models) as mesh, mesh.client as client:
        # The first turn also imports and opens what later ones use.
        calls = [await _calls(mesh, client, "one", (*OURS, contextlib.__file__)) for _ in range(4)][1:]
    assert min(calls) <= 1640


async def test_a_token_is_a_bounded_number_of_calls_of_our_functions(tmp_path: Path) -> None:
    """All services and the client together, less a turn's own share; libraries are not counted."""
    lengths = {"few": TOKENS, "many": 3 * TOKENS}
    models = [
        {"name": name, "backend": "replay", "options": {"pieces": [" word"] * tokens}}
        for name, tokens in lengths.items()
    ]
    profiles = {name: {**GUARDED, "model": name} for name in lengths}
    async with running(tmp_path, profiles=profiles, models={"models": models}) as mesh, mesh.client as client:
        calls = {name: [await _calls(mesh, client, name) for _ in range(3)] for name in lengths}
    # The first turn also imports and opens what later ones use. Tokens that come together, as on a busy machine, cost
    # less: where many did, the difference would be theirs.
    few, many = max(calls["few"][1:]), min(calls["many"][1:])
    assert (many - few) / (2 * TOKENS) <= 122


async def _calls(mesh: Mesh, client: shieldmesh.Mesh, name: str, files: tuple[str, ...] = OURS) -> int:
    """How often functions of these files are entered in a turn, resumptions included."""
    with _counting(files) as counted:
        await client.chat("hi", profile=name, timeout=TIMEOUT).result()
        await mesh.idle()
    return counted.total()


@contextmanager
def _counting(files: tuple[str, ...]) -> Generator[Counter[str]]:
    counted = Counter[str]()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(files):
            counted[frame.f_code.co_filename] += 1

    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(None)
