"""Retries stay a small part of the load, however much fails."""

from hypothesis import given
from hypothesis import strategies as st

from shieldmesh.budget import RetryBudget


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=500))
def test_retries_are_bounded_by_what_succeeds(size: int, story: list[bool]) -> None:
    """Beyond half of the size, once, there is at most one retry for ten successes."""
    budget, retries = RetryBudget(size), 0
    for succeeds in story:
        if succeeds:
            budget.succeeded()
        else:
            budget.failed()
            retries += budget.allows
    assert retries <= size / 2 + 0.1 * story.count(True)


def test_a_budget_that_is_used_up_comes_back_with_success() -> None:
    """Nothing is tried again below half; successes earn it back, and never more than there was at first."""
    budget = RetryBudget(10)
    for _ in range(100):
        budget.failed()
    assert not budget.allows
    for _ in range(1_000):
        budget.succeeded()
    allowed = 0
    while budget.allows:
        budget.failed()
        allowed += 1
    assert allowed == 5
