"""Real meshes for the tests of this directory."""

from collections.abc import Generator

import pytest

from tests.e2e.mesh import Mesh, running


@pytest.fixture(scope="session")
def mesh() -> Generator[Mesh]:
    """A mesh that all tests share: talk to it, but leave its processes alone."""
    with running() as shared:
        yield shared


@pytest.fixture
def own_mesh() -> Generator[Mesh]:
    """A mesh of the test's own, to kill and restart services of."""
    with running() as own:
        yield own
