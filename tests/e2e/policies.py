"""Profiles for the tests of this directory, written as files: what a scripted model says, and who guards it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "4111 1111 1111 1111"
"""A payment card's number as the schemes publish it for tests: its checksum is right."""
SENTENCE = f"Before it, {CARD} and after it."
REDACTED = "Before it, [PAYMENT_CARD] and after it."

LONG = " ".join(f"word{number}" for number in range(5_000))
"""What the slow profile would take minutes to say."""
SHORT = " ".join(f"word{number}" for number in range(20))
"""What the brief profile takes about a second to say."""

_PII: dict[str, Any] = {"type": "pii", "action": "redact", "options": {"region": "US"}}
_REPORTED = {**_PII, "action": "flag"}


def policies() -> dict[str, Mapping[str, Any]]:
    """The profiles by name.

    - `repeat` says what it is told, at once.
    - `slow` says `LONG`, `brief` says `SHORT`, both with the guards of both ways and at the pace of a model.
    - `two-0` and so on say `SENTENCE` in two pieces, each cut at another place; `single` says it in characters.
    - `queued` answers one turn at a time, each after so long that others come meanwhile.
    - `spare` says what it is told, by a model that stands in for one that is not there.
    - `strict` allows few characters and no overrides but one.
    """
    guarded = {"input": {"shields": [_REPORTED]}, "output": {"shields": [_PII]}}
    cuts = {
        f"two-{at}": _scripted({"pieces": [SENTENCE[:at], SENTENCE[at:]]}, guarded) for at in range(1, len(SENTENCE))
    }
    return {
        "default": {"model": "echo", **guarded},
        "repeat": {"model": "echo", **guarded},
        "slow": _scripted({"text": LONG, "pace": 50}, guarded),
        "brief": _scripted({"text": SHORT, "pace": 20}, guarded),
        "single": _scripted({"text": SENTENCE, "cut": "characters"}, guarded),
        "queued": {"model": "single", "model_options": {"first_token_ms": 2_500}},
        "spare": {"model": "away", "fallback": ["missing", "echo"], **guarded},
        "strict": {"model": "echo", "limits": {"input_characters": 100}, "allow_overrides": ["temperature"]},
        **cuts,
    }


def write(directory: Path) -> None:
    """Writes them all as `NAME.yaml`."""
    for name, policy in policies().items():
        # JSON is YAML.
        (directory / f"{name}.yaml").write_text(json.dumps(policy))


def _scripted(options: Mapping[str, Any], guarded: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"model": "script", "model_options": options, **guarded}
