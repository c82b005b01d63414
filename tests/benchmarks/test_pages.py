"""The pages that a run makes, from results as a run writes them."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import page, plan, results
from benchmarks.figures import Figures, Spread
from benchmarks.measure import Observation
from benchmarks.results import Machine, Results
from benchmarks.scaling import Model
from benchmarks.scenarios import ALL

SERVICES = ("gateway", "orchestrator", "shield", "inference")


def observed(cpu: float) -> Observation:
    """What a scenario could have shown; a token costs `cpu` seconds."""
    figures = Figures(
        tokens_per_second=6_400.0,
        turns_per_second=25.6,
        cpu_per_token=dict.fromkeys(SERVICES, cpu / len(SERVICES)),
        cpu_per_turn=cpu * 250,
        cores=6_400 * cpu,
        client=0.2,
        others=0.3,
        tokens_per_delta=1.1,
        first_token=Spread(0.006, 0.02),
        gap=Spread(0.02, 0.06),
        memory=320 * 1024.0,
        held=7,
        failed=0,
        errors=[],
    )
    return Observation(figures, figures)


def run(*, but: str = "") -> Results:
    """Everything that `make bench` measures, except for one system that failed."""
    found = Results("make bench", "2026-11-26T12:00:00+00:00", Machine("a CPU", 2, 2**34, "6", "3.11", "1.85"), 0.1)
    found.speeds += [1.5, 2.25]
    for number, job in enumerate(plan.full()):
        found.titles[job.system.name] = job.system.title
        found.settings[job.system.name] = job.system.settings
        if job.system.name == but:
            found.failures[but] = "StartError: it did not start"
            continue
        for factor, names in enumerate(job.rounds, start=1):
            for name in names:
                found.scenarios[name] = ALL[name].meaning
                cpu = factor * ((200 + number) * 1e-6 if name != "short" else 500e-6)
                found.seen.setdefault(job.system.name, {}).setdefault(name, []).append(observed(cpu))
    return found


@pytest.mark.parametrize("name", ["performance.md", "scaling.md", "quick.md"])
@pytest.mark.parametrize("missing", ["", "smg", "hop", "mesh"])
def test_a_page_is_made_whatever_was_measured(name: str, missing: str) -> None:
    """A system that failed is named as such, and all else is there."""
    text = page.render(name, run(but=missing))
    assert "None" not in text
    if missing and name != "scaling.md":
        assert "StartError: it did not start" in text


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """JSON loses nothing."""
    run().write(tmp_path / "full.json")
    assert results.read(tmp_path / "full.json") == run()


def test_the_model_takes_the_costs_of_turns_and_tokens_apart() -> None:
    """Costs that were made of a turn's and a token's, alone or with others, are what it says of them."""
    turn, token, shared = 0.010, 0.001, 0.000_2
    found = run()
    found.seen["mesh"]["steady"] = [observed(token)]
    found.seen["mesh"]["short"] = [observed(token + turn / 10)]
    found.seen["mesh"]["paced"] = [observed(shared + turn / 250)]
    model = Model.of(found)
    assert model is not None
    assert [model.turn, model.token, model.shared] == pytest.approx([turn, token, shared])
    need = model.need(128)
    assert need.cores == pytest.approx(128 * 50 * (token + turn / 250))
    assert need.full_cores == pytest.approx(128 * 50 * (shared + turn / 250))


def test_the_model_is_checked_by_loads_that_the_machine_could_follow() -> None:
    """Of the others it would say more than was there to be used."""
    model = Model.of(run())  # where 6,400 tokens/s came, whatever was asked for
    assert model is not None
    assert [check.streams for check in model.checks] == [1, 8, 64, 512]
    found = run()
    slow = found.seen["mesh"]["sweep-512"][0]
    found.seen["mesh"]["sweep-512"] = [replace(slow, system=replace(slow.system, tokens_per_second=978.0))]
    model = Model.of(found)
    assert model is not None
    assert [check.streams for check in model.checks] == [1, 8, 64]
