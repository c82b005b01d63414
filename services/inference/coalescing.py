"""Few messages for a busy reader: the steps that gathered while it was busy become as few as say the same."""

from collections.abc import Sequence
from dataclasses import replace

from .backend import Output


def coalesce(outputs: Sequence[Output]) -> Sequence[Output]:
    """The same output in the same order, neighbours of the same choice and kind joined; token counts add up."""
    if len(outputs) < 2:
        return outputs
    joined = [outputs[0]]
    for output in outputs[1:]:
        if _alike(joined[-1], output):
            joined[-1] = _join(joined[-1], output)
        else:
            joined.append(output)
    return joined


def _alike(first: Output, second: Output) -> bool:
    if first.choice != second.choice or bool(first.reasoning) != bool(second.reasoning):
        return False
    if first.tool is None or second.tool is None:
        return first.tool is second.tool
    return first.tool.index == second.tool.index and not (second.tool.id or second.tool.name)


def _join(first: Output, second: Output) -> Output:
    tool = first.tool
    if tool is not None and second.tool is not None:
        tool = replace(tool, arguments=tool.arguments + second.tool.arguments)
    return Output(
        choice=first.choice,
        text=first.text + second.text,
        reasoning=first.reasoning + second.reasoning,
        tool=tool,
        token_count=first.token_count + second.token_count,
    )
