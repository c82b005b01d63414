"""Window shields from their options."""

from dataclasses import dataclass, field

from services.shield.shield import Rules, SlowShield
from shieldmesh.profile.options import ClassifierOptions, InjectionOptions, JudgeOptions, Window

from .classifier import LabelledModel
from .injection import look
from .judge import AT_ONCE, Judge
from .models.files import ModelError, ModelFiles
from .shield import WindowShield
from .whole import WholeTextShield

WindowOptions = ClassifierOptions | InjectionOptions | JudgeOptions


@dataclass(frozen=True, slots=True)
class Means:
    """What the service has for shields that ask models."""

    models: ModelFiles = field(default_factory=lambda: ModelFiles(None))
    inference: str = ""
    """Where the inference service is; empty: nowhere."""


def window_shield(rules: Rules, options: WindowOptions, means: Means) -> SlowShield:
    """The shield that works by these rules and options. Loads a model that was not loaded before.

    Raises:
        ModelError: the service has no such model; `option` says which option is wrong.
    """
    match options:
        case ClassifierOptions():
            model = LabelledModel(means.models.load(options.path), options)
            return WindowShield(rules, model.look, options.window)
        case InjectionOptions():
            return WindowShield(rules, look.look(options), options.window)
        case JudgeOptions():
            if not means.inference:
                message = (
                    "this shield service knows no inference service: set SHIELDMESH_SHIELD_INFERENCE to its address"
                )
                raise ModelError("model", message)
            judge = Judge(means.inference, options, rules.name)
            if options.window == "whole":
                return WholeTextShield(rules, judge.look)
            return WindowShield(rules, judge.look, Window(), at_once=AT_ONCE)
