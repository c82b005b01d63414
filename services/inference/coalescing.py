"""Few messages for a busy reader: the steps that gathered while it was busy become as few as say the same."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from .backend import Output


def coalesce(outputs: Iterable[Output]) -> Iterator[Output]:
    """The same output in the same order, neighbours of the same choice and kind joined; token counts add up."""
    gathered: Output | None = None
    for output in outputs:
        if gathered is None:
            gathered = output
        elif _alike(gathered, output):
            gathered = _join(gathered, output)
        else:
            yield gathered
            gathered = output
    if gathered is not None:
        yield gathered


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
