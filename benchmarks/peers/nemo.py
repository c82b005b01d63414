"""NeMo Guardrails with a regex rail on a streamed output."""

from pathlib import Path
from typing import Final

import yaml

from benchmarks.system import Engines, System

from . import environments
from .http import Setup, peer

PATTERNS: Final = (
    r"[\w.+-]+@[\w-]+\.[\w.]+",
    r"\b(?:\d[ -]?){13,16}\b",
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\bAKIA[0-9A-Z]{16}\b",
)
CHUNK: Final = 200
"""Tokens that a rail looks at together: the default."""
# Its own command listens on all addresses and logs every request; this is the rest of what it does.
_SERVER: Final = """
import sys, uvicorn
from nemoguardrails.server import api
api.app.rails_config_path = sys.argv[1]
api.app.default_config_id = "rails"
uvicorn.run(api.app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


def system() -> System:
    """With a rail of patterns that blocks."""
    return System(
        "nemo",
        f"NeMo Guardrails {environments.version('nemo')}, regex rail",
        f"Its server in one process (it has no workers), no access log; `regex check output` with {len(PATTERNS)} "
        f"patterns, streaming with the default chunks of {CHUNK} tokens, `stream_first: false`.",
        peer("nemo", _configure),
    )


def _configure(directory: Path, engines: Engines, address: str, port: int) -> Setup:
    (directory / "rails").mkdir()
    # A request's model takes the place of this one.
    (directory / "rails" / "config.yml").write_text(yaml.safe_dump(_rails(next(iter(engines)), address)))
    python = environments.program("nemo", "python")
    environment = {"OPENAI_API_KEY": "none", "NEMO_GUARDRAILS_DISABLE_CHAT_UI": "true"}
    return Setup([python, "-c", _SERVER, str(directory), str(port)], environment)


def _rails(model: str, address: str) -> dict[str, object]:
    parameters = {"base_url": f"http://{address}/v1", "api_key": "none"}
    return {
        "models": [{"type": "main", "engine": "openai", "model": model, "parameters": parameters}],
        "rails": {
            "config": {"regex_detection": {"output": {"patterns": list(PATTERNS)}}},
            "output": {
                "flows": ["regex check output"],
                "streaming": {"enabled": True, "chunk_size": CHUNK, "context_size": 50, "stream_first": False},
            },
        },
    }
