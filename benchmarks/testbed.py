"""The mesh that is measured: four processes joined by Unix sockets, with engines that cost next to nothing."""

import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

import yaml

from shieldmesh.cli.local.address import claim
from shieldmesh.cli.local.mesh import running_mesh
from shieldmesh.cli.local.plan import plan_mesh

ROOT: Final = Path(__file__).resolve().parents[1]
GUARDS: Final[dict[str, Any]] = {  # Any: YAML
    "input": {"shields": [{"type": "secrets", "action": "block"}, {"type": "pii", "action": "flag"}]},
    "output": {"shields": [{"type": "secrets", "action": "redact"}, {"type": "pii", "action": "redact"}]},
}
"""The match shields of the profile that the project ships as the default one, on both ways."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A scripted engine: so many tokens of English prose (Python's own reference), at so many a second."""

    tokens: int
    pace: float
    """0: as fast as they are read, each on its own."""

    @property
    def options(self) -> dict[str, Any]:
        """As models.yaml says it."""
        words = " ".join("".join(topics.values()).split()[: self.tokens])
        return {"text": words, "pace": self.pace}


@dataclass(frozen=True, slots=True)
class Testbed:
    """A running mesh."""

    gateway: str
    inference: str
    pids: Mapping[str, int]


class _Pids:
    """Keeps the services' process ids and lets their logs go."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}

    def line(self, service: str, line: str) -> None:
        """See `Reporter`."""

    def ready(self, service: str, pid: int, seconds: float) -> None:
        """See `Reporter`."""
        del seconds
        self.pids[service] = pid

    def note(self, text: str) -> None:
        """See `Reporter`."""


@asynccontextmanager
async def running(engine: Engine, *, root: Path = ROOT, trace_ratio: float = 1.0) -> AsyncGenerator[Testbed]:
    """A mesh of the checkout `root` with the profiles `guarded` and `bare` in front of the model `engine`."""
    with tempfile.TemporaryDirectory(prefix="sm-") as name:
        directory = Path(name)
        _configure(directory, engine)
        services = plan_mesh(
            directory,
            claim("127.0.0.1:0"),
            profiles=directory / "profiles",
            models=directory / "models.yaml",
            log_format="json",
        )
        environment = {**os.environ, "SHIELDMESH_GATEWAY_TRACE_RATIO": str(trace_ratio)}
        targets = {service.name: service.target for service in services}
        seen = _Pids()
        async with running_mesh(services, root, environment, seen):
            yield Testbed(targets["gateway"], targets["inference"], seen.pids)


def _configure(directory: Path, engine: Engine) -> None:
    (directory / "profiles").mkdir()
    limits = {"duration": 3_600}
    for profile, guards in (("guarded", GUARDS), ("bare", {})):
        policy = {"model": "engine", "limits": limits, **guards}
        (directory / "profiles" / f"{profile}.yaml").write_text(yaml.safe_dump(policy))
    model = {"name": "engine", "backend": "replay", "max_running": 4_096, "options": engine.options}
    (directory / "models.yaml").write_text(yaml.safe_dump({"models": [model]}))
