"""Shields of the kind window: a model looks at a text part by part."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from .base import ShieldOptions, ShieldType

Unit = Literal["sentences", "words", "characters"]
InjectionKind = Literal["prompt_attack"]
JudgeKind = Literal["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "S14"]
KindName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}\z")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Probability = Annotated[float, Field(ge=0, le=1)]

INJECTION_KINDS: Final[tuple[InjectionKind, ...]] = get_args(InjectionKind)
JUDGE_KINDS: Final[tuple[JudgeKind, ...]] = get_args(JudgeKind)
LONGEST_WINDOW: Final = 8_000
"""Code points of a window at most."""
INJECTION_THRESHOLD: Final = 0.7
"""The score from which on `injection` reports; docs/shields.md says what it means in precision and recall."""


class Window(ShieldOptions):
    """How a text is cut into the parts that a model sees. Depends on the text alone, never on how it came."""

    unit: Unit = "sentences"
    size: int = Field(default=4, ge=1, le=LONGEST_WINDOW)
    """Units in a window."""
    overlap: int = Field(default=1, ge=0)
    """Units that a window shares with the one before; text that a later window shares waits for that one, too."""
    longest: int = Field(default=800, ge=32, le=LONGEST_WINDOW)
    """Code points of a window at most, whatever its units: so much text can wait, and no more."""

    @model_validator(mode="after")
    def _goes_on(self) -> "Window":
        if self.overlap >= self.size:
            raise ValueError(
                f"an overlap of {self.overlap} leaves nothing new in {self.size} {self.unit}: make it less"
            )
        if self.overlap >= self.longest:
            message = f"an overlap of {self.overlap} leaves nothing new in {self.longest} characters: make it less"
            raise ValueError(message)
        return self


class ClassifierOptions(ShieldOptions):
    """Options of `classifier`."""

    path: str = Field(min_length=1, max_length=500)
    """Where the model lies, below the shield service's directory of models: a directory with `model.onnx`, or a
    `.skops` file."""
    labels: dict[Label, KindName] = Field(min_length=1, max_length=100)
    """The kind of finding that each label of the model means; labels that are not named mean nothing."""
    min_score: Probability = 0.5
    """What scores less is no finding."""
    window: Window = Window()


class InjectionOptions(ShieldOptions):
    """Options of `injection`."""

    min_score: Probability = INJECTION_THRESHOLD
    """What scores less is no finding."""
    window: Window = Window()


class JudgeOptions(ShieldOptions):
    """Options of `judge`."""

    model: str = Field(min_length=1, max_length=200)
    """A model of the inference service that the shield service asks."""
    prompt: str | None = Field(default=None, max_length=20_000)
    """What the model is told before the text. None means a prompt with the categories S1 to S14; empty means nothing,
    for models whose own template says it, such as Llama Guard's."""
    window: Literal["whole", "sentences"] = "sentences"
    """What it is asked about: a few sentences at a time, or the whole text at its end."""


WINDOW_TYPES: Final = (
    ShieldType(
        "classifier",
        "window",
        "Asks a text classifier of your own: ONNX or scikit-learn.",
        (),
        ClassifierOptions,
    ),
    ShieldType(
        "injection",
        "window",
        "Finds attempts to talk a model out of its instructions: prompt injection and jailbreaks.",
        INJECTION_KINDS,
        InjectionOptions,
    ),
    ShieldType(
        "judge",
        "window",
        "Asks a model of the mesh whether a text is safe, in the words of Llama Guard.",
        JUDGE_KINDS,
        JudgeOptions,
    ),
)
"""The types that have a model look at windows; the options of each stand above."""
