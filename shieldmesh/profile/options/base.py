"""What every type of shield says about itself."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict

Kind = Literal["match", "window", "whole"]
"""How much text a shield needs to see: what a pattern can match, a few sentences, or all of it."""

TextPart = Literal["content", "reasoning", "tool_arguments"]
"""What a text of the output is."""
TEXT_PARTS: Final[tuple[TextPart, ...]] = get_args(TextPart)


class ShieldOptions(BaseModel):
    """Options of a type of shield; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class ShieldType:
    """Describes a type of built-in shield."""

    name: str
    kind: Kind
    description: str
    finding_kinds: tuple[str, ...]
    options: type[ShieldOptions]
    removes: bool = False
    """Whether a redaction leaves nothing in its place."""
    parts: tuple[TextPart, ...] = TEXT_PARTS
    """What it looks at in the output where a policy does not say."""
