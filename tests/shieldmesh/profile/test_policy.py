"""What guards the two ways of a turn, and which combinations make no sense."""

from dataclasses import replace

import pytest

from shieldmesh import profile
from shieldmesh.profile.options import SHIELD_TYPES
from shieldmesh.v1 import shield_pb2
from tests.shieldmesh.profile.writing import parse, problems


def output(mode: str, action: str = "block", more: str = "") -> str:
    return f"model: a\noutput:\n  shields: [{{type: pii, action: {action}}}]\n  mode: {mode}\n{more}"


def test_text_is_held_unless_the_policy_says_otherwise() -> None:
    """The default is the safe one."""
    assert parse("model: a").output.mode == "hold"
    assert parse(output("observe")).output.mode == "observe"


@pytest.mark.parametrize("action", ["redact", "{redact: 0.9, flag: 0.1}"])
def test_what_only_observes_cannot_redact(action: str) -> None:
    """Text that has left cannot be replaced: the mode is refused, with the shields that stand against it."""
    (problem,) = problems(output("observe", action))
    assert problem.startswith("p.yaml:4: output.mode: observe lets text leave before pii can redact it")


def test_a_latency_budget_in_the_words_of_the_contract() -> None:
    """Time and what happens when it is spent are what the shield service is told; without one, it is told nothing."""
    policy = parse(output("hold", more="  latency_budget: {time: 0.5, over: degrade}"))
    budget = profile.latency_budget(policy.output.latency_budget)
    assert budget is not None
    assert (budget.time.ToMilliseconds(), budget.over) == (500, shield_pb2.OVER_BUDGET_DEGRADE)
    assert profile.latency_budget(parse(output("hold")).output.latency_budget) is None


@pytest.mark.parametrize(
    ("mode", "budget", "problem"),
    [
        ("hold", "{time: 0, over: hold}", ".time: input should be greater than 0"),
        ("hold", "{time: 61, over: hold}", ".time: input should be less than or equal to 60"),
        ("hold", "{time: 1, over: wait}", ".over: input should be 'hold', 'degrade' or 'fail'"),
        ("hold", "{time: 1}", ".over: it is missing"),
        ("observe", "{time: 1, over: fail}", ": nothing waits for shields that only observe"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(mode: str, budget: str, problem: str) -> None:
    """A budget has a time and an end, and there must be something that waits."""
    (told,) = problems(output(mode, more=f"  latency_budget: {budget}"))
    assert told.startswith(f"p.yaml:5: output.latency_budget{problem}")


def test_a_budget_that_nobody_spends_is_noticed() -> None:
    """Match shields answer at once: a budget over them alone is told to have no effect."""
    content = output("hold", more="  latency_budget: {time: 1, over: fail}")
    (notice,) = profile.parse("p", "p.yaml", content.encode()).notices
    assert str(notice) == "p.yaml:5: output.latency_budget: no shield here takes its time: the budget is never spent"


def test_a_shield_that_holds_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking shield that needs the whole text gets a notice with its place; one that holds nothing gets none."""
    monkeypatch.setitem(SHIELD_TYPES, "pii", replace(SHIELD_TYPES["pii"], kind="whole"))
    (notice,) = profile.parse("p", "p.yaml", output("hold", "{block: 0.5}").encode()).notices
    assert str(notice).startswith("p.yaml:3: output.shields[0]: pii sees the answer only when it is complete")
    assert not profile.parse("p", "p.yaml", output("hold", "flag").encode()).notices
    assert not profile.parse("p", "p.yaml", output("observe").encode()).notices


@pytest.mark.parametrize("side", ["input", "output"])
def test_pseudonyms_are_wanted_where_a_placeholder_names_them(side: str) -> None:
    """One shield on either way is enough."""
    shield = f"{side}: {{shields: [{{type: pii, action: redact, placeholder: '%s'}}]}}"
    assert parse(f"model: a\n{shield % '{pseudonym}'}").wants_pseudonyms
    assert not parse(f"model: a\n{shield % '[{kind}]'}").wants_pseudonyms
