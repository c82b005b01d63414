"""What is not wrong with a policy, but may surprise those who wrote it."""

from collections.abc import Iterator, Sequence

from .policy import Policy

Notice = tuple[Sequence[str | int], str]
"""Where in the document, and what."""


def notices_of(policy: Policy) -> Iterator[Notice]:
    """What to tell whoever loads this policy."""
    shields = policy.output.shields
    if policy.output.latency_budget is not None and all(shield.kind == "match" for shield in shields):
        yield ["output", "latency_budget"], "no shield here takes its time: the budget is never spent"
    for index, shield in enumerate(shields):
        if shield.kind == "whole" and shield.may_hold and policy.output.mode == "hold":
            message = f"{shield.name} sees the answer only when it is complete: all of it waits, and nothing streams"
            yield ["output", "shields", index], message
