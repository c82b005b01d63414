"""How held probes are remembered."""

import time
from contextlib import ExitStack

import pytest

from shieldmesh.diagnostics.probes import ProbeLog
from shieldmesh.errors import ResourceExhaustedError
from shieldmesh.v1.diagnostics_pb2 import (
    PROBE_END_REASON_CANCELLED,
    PROBE_END_REASON_DEADLINE,
    PROBE_END_REASON_UNSPECIFIED,
)


def test_an_end_is_a_cancellation_or_a_deadline() -> None:
    """What ends before its deadline was cancelled; while it is held nothing is said, and unknown ones are none."""
    log = ProbeLog()
    with log.holding("p-1", time.monotonic() + 100), log.holding("p-2", time.monotonic()), log.holding("p-3", None):
        assert log.ending("p-1") == PROBE_END_REASON_UNSPECIFIED
    assert log.ending("p-1") == PROBE_END_REASON_CANCELLED
    assert log.ending("p-2") == PROBE_END_REASON_DEADLINE
    assert log.ending("p-3") == PROBE_END_REASON_CANCELLED
    assert log.ending("p-4") is None


def test_an_end_by_an_error_is_remembered() -> None:
    """Whatever leaves the block ends the probe."""
    log = ProbeLog()
    with pytest.raises(KeyError), log.holding("p-1", None):
        raise KeyError
    assert log.ending("p-1") == PROBE_END_REASON_CANCELLED


def test_old_probes_are_forgotten() -> None:
    """Only so many are remembered."""
    log = ProbeLog(kept=2)
    for number in range(3):
        with log.holding(f"p-{number}", None):
            pass
    assert [log.ending(f"p-{number}") is None for number in range(3)] == [True, False, False]


def test_too_many_are_refused() -> None:
    """One more than may be held is refused, and accepted when one has ended."""
    log = ProbeLog(kept=2)
    with ExitStack() as held:
        for number in range(2):
            held.enter_context(log.holding(f"p-{number}", None))
        with pytest.raises(ResourceExhaustedError, match="2 probes are held") as refused, log.holding("p-2", None):
            pass
        assert refused.value.reason == "TOO_MANY_PROBES"
    with log.holding("p-2", None):
        assert log.ending("p-2") == PROBE_END_REASON_UNSPECIFIED
