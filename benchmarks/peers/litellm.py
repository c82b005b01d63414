"""LiteLLM's proxy, with and without its own guardrail of patterns."""

from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.system import Engines, System

from . import environments
from .http import Setup, peer

WORKERS: Final = 2
_KEY: Final = "sk-benchmark-9f31c2e77a"  # of a proxy that lives for seconds on this machine
_PATTERNS: Final = ("email", "credit_card", "us_phone", "us_ssn", "iban", "ipv4", "aws_access_key", "github_token")
_GUARDRAIL: Final[dict[str, Any]] = {  # Any: YAML
    "guardrail_name": "patterns",
    "litellm_params": {
        "guardrail": "litellm_content_filter",
        "mode": ["pre_call", "post_call"],
        "default_on": True,
        "patterns": [{"pattern_type": "prebuilt", "pattern_name": name, "action": "MASK"} for name in _PATTERNS],
    },
}
_SETTINGS: Final = (
    f"{WORKERS} workers of gunicorn, LITELLM_MODE=PRODUCTION, LITELLM_LOG=ERROR, no database, no cache, no callbacks"
)


def systems() -> tuple[System, System]:
    """Without a guardrail, and with one."""
    version = environments.version("litellm")
    return (
        System(
            "litellm",
            f"LiteLLM {version}, no guardrail",
            f"{_SETTINGS}.",
            peer("litellm", partial(_configure, guardrails=[])),
        ),
        System(
            "litellm-guarded",
            f"LiteLLM {version}, its pattern guardrail",
            f"{_SETTINGS}; `litellm_content_filter` before and after the call, masking {', '.join(_PATTERNS)}.",
            peer("litellm", partial(_configure, guardrails=[_GUARDRAIL])),
        ),
    )


def _configure(
    directory: Path, engines: Engines, address: str, port: int, *, guardrails: list[dict[str, Any]]
) -> Setup:
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": f"http://{address}/v1", "api_key": "none"},
        }
        for name in engines
    ]
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump({"model_list": models, "guardrails": guardrails}))
    command = [environments.program("litellm", "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", str(WORKERS), "--telemetry", "False"]
    # uvicorn's own supervisor kills workers that are busy starting for some seconds.
    command.append("--run_gunicorn")
    environment = {
        "LITELLM_MASTER_KEY": _KEY,
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # Prices of models are not fetched from elsewhere.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return Setup(command, environment, {"Authorization": f"Bearer {_KEY}"})
