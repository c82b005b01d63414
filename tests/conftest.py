"""How tests share a machine: which of them may run side by side, and that none is judged by its time."""

from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

MESHES: Final = ("tests/e2e/", "tests/promises/test_p15_drain.py", "tests/test_packaging.py")
"""Where tests start processes that fill the machine: no two of them run at once."""

settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


class Sharing(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Each of pytest's processes takes a file at a time, and one of them all files that start meshes."""

    def _split_scope(self, nodeid: str) -> str:
        return "meshes" if nodeid.startswith(MESHES) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    """How `pytest --numprocesses` shares the tests."""
    return Sharing(config, log)
