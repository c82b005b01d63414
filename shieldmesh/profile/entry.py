"""One shield of a policy: what it is, what is done about its findings, and what happens when it fails."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    model_validator,
)

from .options import SHIELD_TYPES, Kind, ShieldOptions, TextPart

Action = Literal["allow", "flag", "redact", "block"]
OnError = Literal["closed", "open"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}\z")]

STRICTNESS: Final[tuple[Action, ...]] = ("allow", "flag", "redact", "block")
"""The actions; where several are due, the later one wins."""
MAX_TIMEOUT: Final = 60.0
"""Seconds that a shield may be given."""
MAX_PLACEHOLDER: Final = 64
"""Code points of a placeholder."""
UNION_MARK: Final = "["
"""How the names of a union's members begin, so that messages can leave them out."""

TypeT = TypeVar("TypeT", bound=str)
KindT = TypeVar("KindT", bound=str)
OptionsT = TypeVar("OptionsT", bound=ShieldOptions)


class Part(BaseModel):
    """A part of a policy; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Score = Annotated[float, Field(ge=0, le=1)]


class Scale(Part):
    """Actions by score: each is taken from its score on, and nothing below the least of them."""

    flag: Score | None = None
    redact: Score | None = None
    block: Score | None = None

    @model_validator(mode="after")
    def _rising(self) -> "Scale":
        steps = list(self.steps().items())
        if not steps:
            raise ValueError("expected at least one action with its least score, such as {block: 0.9, flag: 0.5}")
        for (action, score), (stricter, higher) in pairwise(steps):
            if score >= higher:
                raise ValueError(
                    f"{stricter} from {higher:g} on leaves nothing to {action} from {score:g} on: "
                    "a stricter action needs a higher score"
                )
        return self

    def steps(self) -> Mapping[Action, float]:
        """The actions with their scores, both rising."""
        scores: dict[Action, float | None] = {"flag": self.flag, "redact": self.redact, "block": self.block}
        return {action: score for action, score in scores.items() if score is not None}


def _form(value: object) -> str:
    return "[scale]" if isinstance(value, dict | Scale) else "[action]"


Reaction = Annotated[
    Annotated[Action, Tag("[action]")] | Annotated[Scale, Tag("[scale]")],
    Discriminator(_form),
]
"""What is done about findings: an action, or actions by score."""


def _known_fields(placeholder: str) -> str:
    rest = placeholder.replace("{kind}", "").replace("{pseudonym}", "")
    if "{" in rest or "}" in rest:
        raise ValueError("braces stand for {kind} or {pseudonym} alone: leave others out")
    return placeholder


Placeholder = Annotated[str, StringConstraints(max_length=MAX_PLACEHOLDER), AfterValidator(_known_fields)]


class ShieldEntry(Part, Generic[TypeT, KindT, OptionsT]):
    """One shield of a set. Its name is its type's, unless the policy gives another."""

    name: Name = ""
    type: TypeT
    action: Reaction
    actions: dict[KindT, Reaction] = {}
    """What else is done about findings of these kinds."""
    parts: tuple[TextPart, ...] = ()
    """What it looks at in the output; none means what its type looks at by default."""
    placeholder: Placeholder | None = None
    """What takes the place of what it redacts; None leaves it to the shield service, which says `[{kind}]`."""
    on_error: OnError = "closed"
    timeout: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT)
    """Seconds for one inspection; None means the shield service's default."""
    options: OptionsT

    @model_validator(mode="before")
    @classmethod
    def _named_after_type(cls, data: JsonValue) -> JsonValue:
        if isinstance(data, dict) and "name" not in data and isinstance(data.get("type"), str):
            return {"name": data["type"], **data}
        return data

    @property
    def kind(self) -> Kind:
        """How much text it needs to see."""
        return SHIELD_TYPES[self.type].kind

    @property
    def reactions(self) -> "Mapping[str, Action | Scale]":
        """What is done about findings of each kind that the policy names, and under "" about the others."""
        return {"": self.action, **{str(kind): reaction for kind, reaction in self.actions.items()}}

    @property
    def may_redact(self) -> bool:
        """Whether any finding of this shield would be replaced."""
        return any("redact" in possible(reaction) for reaction in self.reactions.values())

    @property
    def may_hold(self) -> bool:
        """Whether text has to wait for this shield."""
        return self.may_redact or any("block" in possible(reaction) for reaction in self.reactions.values())

    @property
    def wants_pseudonyms(self) -> bool:
        """Whether its placeholder names values."""
        return "{pseudonym}" in (self.placeholder or "")


def possible(reaction: Action | Scale) -> frozenset[Action]:
    """The actions that can come of a reaction."""
    return frozenset(reaction.steps() if isinstance(reaction, Scale) else [reaction])


def strictest(reaction: Action | Scale) -> Action:
    """The strictest of them."""
    return max(possible(reaction), key=STRICTNESS.index)
