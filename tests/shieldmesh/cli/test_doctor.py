"""`shieldmesh doctor` as people type it, against services in this process."""

import asyncio
import io

from rich.console import Console
from typer.testing import CliRunner, Result

from shieldmesh.cli import build_app
from shieldmesh.cli.findings import render
from shieldmesh.diagnostics.diagnosis import Check, Diagnosis, Examined, Fault
from tests.shieldmesh.diagnostics.mesh import Deaf, Faults, serving


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["doctor", *arguments])


async def examined(faults: Faults | None = None) -> Result:
    async with serving(faults) as targets:
        return await asyncio.to_thread(invoke, targets["gateway"])


def printed(diagnosis: Diagnosis) -> list[str]:
    file = io.StringIO()
    render(diagnosis, Console(file=file, width=80))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def hop(service: str, depth: int, remaining: float | None = 4.9, **wrong: bool | None) -> Examined:
    passed = {check: wrong.get(check.name.lower(), True) for check in Check}
    return Examined(service, f"{service}-1", depth, remaining, passed)


def test_findings_in_80_columns() -> None:
    """A tree of the hops with a mark for each check, then what is wrong and what could not be told."""
    hops = [
        hop("gateway", 0, 5.0),
        hop("orchestrator", 1),
        hop("shield", 2, trace=False),
        hop("model", 3, None, cancellation=None),
        hop("inference", 2),
    ]
    fault = Fault(Check.TRACE, "orchestrator", "orchestrator does not pass the trace on to shield")
    assert printed(Diagnosis(hops, [fault])) == [
        "                 call  session  turn  trace  deadline  cancel  time left",
        "gateway           ✓       ✓      ✓      ✓       ✓        ✓     5.00 s",
        "└─ orchestrator   ✓       ✓      ✓      ✓       ✓        ✓     4.90 s",
        "   ├─ shield      ✓       ✓      ✓      ✗       ✓        ✓     4.90 s",
        "   │  └─ model    ✓       ✓      ✓      ✓       ✓        ?",
        "   └─ inference   ✓       ✓      ✓      ✓       ✓        ✓     4.90 s",
        "✗ trace: orchestrator does not pass the trace on to shield",
        "? cannot be told: the hop could not be asked, or another replica answered",
    ]


async def test_a_sound_mesh_is_exit_code_0() -> None:
    """All four hops are listed, and it says that all is well."""
    result = await examined()
    assert result.exit_code == 0, result.stdout
    assert result.stdout.count("✓") == 4 * len(Check) + 1
    assert "everything that was checked reaches every hop" in result.stdout
    assert result.stderr == ""


async def test_a_broken_hop_is_named_with_exit_code_1() -> None:
    """What is wrong is in the table and in a sentence that names the hop."""
    result = await examined(Faults(downstream={"orchestrator": Deaf}))
    assert result.exit_code == 1
    assert "✗ cancel: orchestrator does not pass a cancellation on to" in result.stdout
    assert result.stdout.count("✗") == 3


async def test_no_mesh_is_exit_code_1() -> None:
    """Nobody there is one sentence."""
    result = await asyncio.to_thread(invoke, "unix:/nowhere/mesh.sock")
    assert result.exit_code == 1
    assert "start a mesh with `shieldmesh up`" in result.stderr


def test_wrong_use_is_exit_code_2() -> None:
    """What is no mesh's URL is refused before anything happens."""
    assert invoke("http://host").exit_code == 2
