"""What a turn costs in work that can be counted; `benchmarks/` measures the time that it takes."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

from opentelemetry.trace import SpanKind

from shieldmesh.telemetry import Name

from .promises.mesh import TIMEOUT, deny, running
from .promises.observing import observed

TOKENS: Final = 40
ENGINE: Final[dict[str, Any]] = {
    "models": [{"name": "engine", "backend": "replay", "options": {"pieces": [" word"] * TOKENS}}]
}
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
