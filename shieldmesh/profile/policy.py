"""What a profile says: the policy of a turn, as typed and frozen models."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .entry import MAX_TIMEOUT, Part, ShieldEntry
from .options import (
    ClassifierOptions,
    DenyListOptions,
    InjectionKind,
    InjectionOptions,
    InvisibleKind,
    InvisibleOptions,
    JsonSchemaOptions,
    JudgeKind,
    JudgeOptions,
    Kind,
    KindName,
    LanguageOptions,
    PiiKind,
    PiiOptions,
    RemoteOptions,
    SecretKind,
    SecretsOptions,
    UrlOptions,
)
from .template import PromptTemplate

InputMode = Literal["parallel", "gate"]
OutputMode = Literal["hold", "observe"]
OverBudget = Literal["hold", "degrade", "fail"]
SamplingField = Literal[
    "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "max_tokens", "seed", "stop"
]
Disconnect = Literal["cancel", "drain", "detach"]
HistoryMode = Literal["none", "keep"]
OnStall = Literal["pause", "detach", "cancel"]
Override = SamplingField | Literal["disconnect", "history"]


class SamplingPolicy(Part):
    """How tokens are chosen; the ranges of `shieldmesh.v1.Sampling`. None leaves it to the model."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=2**32)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**32)
    seed: int | None = Field(default=None, ge=0, lt=2**64)
    stop: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(default=(), max_length=16)


class Limits(Part):
    """What a turn may use at most."""

    input_characters: int = Field(default=100_000, ge=1, le=10_000_000)
    """Code points of all messages of a request together."""
    output_tokens: int | None = Field(default=None, ge=1, lt=2**32)
    """Tokens of an answer, whatever callers ask for; None leaves it to the sampling."""
    duration: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds from start to end."""
    calls: int = Field(default=16, ge=1, le=10_000)
    """Calls of modules by a flow."""


class HistoryPolicy(Part):
    """Who keeps the history of a conversation, and how much of it."""

    mode: HistoryMode = "none"
    """`keep`: the mesh, under the session's id; `none`: the caller."""
    tokens: int = Field(default=4_096, ge=1, le=10_000_000)
    """Tokens of it, by estimate, that are kept and shown to the model."""
    retention: float = Field(default=2_592_000.0, ge=1, le=315_360_000)
    """Seconds that a session is kept after its last use."""


class Stall(Part):
    """What becomes of a turn whose caller stays and reads nothing."""

    after: float = Field(default=10.0, ge=0.1, le=86_400)
    """Seconds in which it takes nothing of what waits for it."""
    then: OnStall = "detach"
    """The turn waits on (`pause`); goes on into the turn log, where a caller that reads again continues (`detach`); or
    ends as one that is cancelled does (`cancel`)."""


class PiiEntry(ShieldEntry[Literal["pii"], PiiKind, PiiOptions]):
    """Looks for personal data."""

    options: PiiOptions = PiiOptions()


class SecretsEntry(ShieldEntry[Literal["secrets"], SecretKind, SecretsOptions]):
    """Looks for credentials."""

    options: SecretsOptions = SecretsOptions()


class DenyListEntry(ShieldEntry[Literal["deny_list"], Literal["denied_term"], DenyListOptions]):
    """Looks for terms of a list."""


class UrlEntry(ShieldEntry[Literal["url"], Literal["url"], UrlOptions]):
    """Looks for URLs."""

    options: UrlOptions = UrlOptions()


class InvisibleEntry(ShieldEntry[Literal["invisible"], InvisibleKind, InvisibleOptions]):
    """Looks for characters that show nothing."""

    options: InvisibleOptions = InvisibleOptions()


class JsonSchemaEntry(ShieldEntry[Literal["json_schema"], Literal["not_json", "schema_violation"], JsonSchemaOptions]):
    """Sees that a text is JSON of a schema."""


class LanguageEntry(ShieldEntry[Literal["language"], Literal["other_language"], LanguageOptions]):
    """Sees that a text is in a language that is allowed."""


class ClassifierEntry(ShieldEntry[Literal["classifier"], KindName, ClassifierOptions]):
    """Asks a classifier."""


class InjectionEntry(ShieldEntry[Literal["injection"], InjectionKind, InjectionOptions]):
    """Looks for prompt injection and jailbreaks."""

    options: InjectionOptions = InjectionOptions()


class JudgeEntry(ShieldEntry[Literal["judge"], JudgeKind, JudgeOptions]):
    """Asks a model of the mesh."""

    @property
    def kind(self) -> Kind:
        """How much text it needs to see."""
        return "whole" if self.options.window == "whole" else super().kind


class RemoteEntry(ShieldEntry[Literal["remote"], KindName, RemoteOptions]):
    """Asks another service."""

    @property
    def kind(self) -> Kind:
        """How much text it needs to see."""
        return "whole" if self.options.sees_all else super().kind


AnyShield = Annotated[
    PiiEntry
    | SecretsEntry
    | DenyListEntry
    | UrlEntry
    | InvisibleEntry
    | JsonSchemaEntry
    | LanguageEntry
    | ClassifierEntry
    | InjectionEntry
    | JudgeEntry
    | RemoteEntry,
    Field(discriminator="type"),
]


def _once(values: Sequence[str]) -> None:
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(repeated)} stands there more than once; names must differ")


def _named_once(shields: tuple[AnyShield, ...]) -> tuple[AnyShield, ...]:
    _once([shield.name for shield in shields])
    return shields


def _fields_once(fields: tuple[Override, ...]) -> tuple[Override, ...]:
    _once(fields)
    return fields


ShieldSet = Annotated[tuple[AnyShield, ...], Field(max_length=32), AfterValidator(_named_once)]


class InputPolicy(Part):
    """What guards the way from the client to the model."""

    shields: ShieldSet = ()
    mode: InputMode = Field(default="parallel", validate_default=True)
    """`gate` waits for the shields before the model sees anything; `parallel` lets it start beside them. Where the
    file does not say: `gate` when a shield may redact, which has to happen before, else `parallel`."""

    @model_validator(mode="before")
    @classmethod
    def _no_empty_mode(cls, data: JsonValue) -> JsonValue:
        # The mode's default depends on the shields, which are validated first: see _fit.
        return {"mode": "", **data} if isinstance(data, dict) else data

    @field_validator("mode", mode="before")
    @classmethod
    def _fit(cls, mode: JsonValue, info: ValidationInfo) -> JsonValue:
        shields: tuple[AnyShield, ...] = info.data.get("shields", ())
        redacting = [shield.name for shield in shields if shield.may_redact]
        if mode == "":
            return "gate" if redacting else "parallel"
        if mode == "parallel" and redacting:
            raise ValueError(
                f"parallel lets the model read the text before {', '.join(redacting)} can redact it: "
                "use gate, or another action"
            )
        return mode


class LatencyBudget(Part):
    """How long text may wait, in a turn, for shields that do not answer at once."""

    time: float = Field(gt=0, le=MAX_TIMEOUT)
    """Seconds in which some text waited for them, summed over the turn."""
    over: OverBudget
    """What happens then: text waits on, or waits for them no longer, or the turn ends with a block."""


class OutputPolicy(Part):
    """What guards the way from the model to the client."""

    shields: ShieldSet = ()
    mode: OutputMode = "hold"
    """`hold` lets text leave when the shields have cleared it; `observe` at once, and a block cuts what follows."""
    latency_budget: LatencyBudget | None = None
    """None: text waits as long as it takes."""

    @field_validator("mode")
    @classmethod
    def _keep(cls, mode: OutputMode, info: ValidationInfo) -> OutputMode:
        shields: tuple[AnyShield, ...] = info.data.get("shields", ())
        redacting = [shield.name for shield in shields if shield.may_redact]
        if mode == "observe" and redacting:
            raise ValueError(
                f"observe lets text leave before {', '.join(redacting)} can redact it: use hold, or another action"
            )
        return mode

    @field_validator("latency_budget")
    @classmethod
    def _spend(cls, budget: LatencyBudget | None, info: ValidationInfo) -> LatencyBudget | None:
        if budget is not None and info.data.get("mode") == "observe":
            raise ValueError("nothing waits for shields that only observe: leave it out, or use the mode hold")
        return budget


def _prompt_form(value: object) -> str:
    return "[template]" if isinstance(value, dict | PromptTemplate) else "[text]"


Prompt = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[PromptTemplate, Tag("[template]")],
    Discriminator(_prompt_form),
]
"""A text, or what makes one of a turn's variables."""


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class FlowPolicy(Part):
    """A flow that answers in the place of the model."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    """One of those that the orchestrator's setting `flows` brings."""
    modules: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")],
        Annotated[str, StringConstraints(min_length=1, max_length=1024)],
    ] = Field(default_factory=dict[str, str], max_length=32)
    """What the flow calls beside the profile's model, by the names that the flow uses: models of the inference service,
    and URLs that the orchestrator's setting `modules` allows."""
    options: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    """Whatever the flow takes."""


class Policy(Part):
    """The content of a profile's file."""

    model: ModelName
    fallback: Annotated[tuple[ModelName, ...], Field(max_length=8)] = ()
    """The models to ask, one after the other, when `model` fails before its first token."""
    prompt: Prompt = ""
    """The system prompt; empty means none."""
    sampling: SamplingPolicy = SamplingPolicy()
    allow_overrides: Annotated[tuple[Override, ...], AfterValidator(_fields_once)] = ()
    """The sampling fields that a caller may set, `disconnect` and `history`."""
    disconnect: Disconnect = "cancel"
    """What becomes of a turn whose caller goes away: it ends; or goes on, until the caller's deadline (`drain`) or for
    as long as the limits allow (`detach`)."""
    reconnect_grace: float = Field(default=0.0, ge=0, le=3600)
    """Seconds that a turn with `cancel` goes on when nobody reads it any more, for its caller to come back."""
    history: HistoryPolicy = HistoryPolicy()
    stall: Stall = Stall()
    limits: Limits = Limits()
    model_options: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    """Options of the model's backend, passed on as they are."""
    flow: Annotated[FlowPolicy | None, BeforeValidator(_named)] = None
    """What answers in the place of the model, which it can call; the name alone, or a map."""
    input: InputPolicy = Field(default_factory=InputPolicy)
    output: OutputPolicy = OutputPolicy()

    @field_validator("fallback")
    @classmethod
    def _others(cls, fallback: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        _once([info.data.get("model", ""), *fallback])
        return fallback

    @property
    def sampling_overrides(self) -> tuple[SamplingField, ...]:
        """The sampling fields that a caller may set."""
        return tuple(name for name in self.allow_overrides if name != "disconnect" and name != "history")  # noqa: PLR1714  # narrows

    @property
    def wants_pseudonyms(self) -> bool:
        """Whether a placeholder names values, for which the turn needs a key."""
        return any(shield.wants_pseudonyms for shield in (*self.input.shields, *self.output.shields))
