"""Real meshes for the tests of this directory."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e import policies
from tests.e2e.mesh import ROOT, Mesh, running

SCRIPTED_MODELS = ROOT / "tests" / "e2e" / "scripted.yaml"


@pytest.fixture(scope="session")
def mesh() -> Generator[Mesh]:
    """A mesh as it is shipped, which all tests share: talk to it, but leave its processes alone."""
    with running() as shared:
        yield shared


@pytest.fixture(scope="session")
def scripted_mesh(policy_files: Path) -> Generator[Mesh]:
    """A mesh with the profiles of `policies` and models that follow scripts: leave its processes alone."""
    with running(profiles=policy_files, models=SCRIPTED_MODELS) as shared:
        yield shared


@pytest.fixture(scope="module")
def own_mesh(policy_files: Path) -> Generator[Mesh]:
    """The same for one module alone, to kill and restart services of. Running turns get minutes to finish."""
    grace = {f"SHIELDMESH_{name}_DRAIN_GRACE": "600" for name in ("GATEWAY", "ORCHESTRATOR", "SHIELD", "INFERENCE")}
    with running(profiles=policy_files, models=SCRIPTED_MODELS, environment=grace) as own:
        yield own


@pytest.fixture(scope="session")
def policy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the profiles of `policies`."""
    directory = tmp_path_factory.mktemp("profiles")
    policies.write(directory)
    return directory
