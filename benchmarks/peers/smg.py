"""smg, a gateway in Rust."""

from pathlib import Path

from benchmarks.system import Engines, System

from . import environments
from .http import Setup, peer


def system() -> System:
    """As a proxy of an OpenAI-compatible server."""
    return System(
        "smg",
        f"smg {environments.version('smg')} (Rust), no guardrail",
        "`--backend openai`, log level error, its defaults otherwise.",
        peer("smg", _configure),
    )


def _configure(_directory: Path, _engines: Engines, address: str, port: int) -> Setup:
    command = [environments.program("smg", "smg"), "launch", "--backend", "openai"]
    command += ["--worker-urls", f"http://{address}", "--host", "127.0.0.1", "--port", str(port)]
    return Setup([*command, "--log-level", "error"])
