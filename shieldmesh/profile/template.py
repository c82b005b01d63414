"""Prompts with variables: Jinja2 templates in a sandbox, checked when the profile is read.

A value is text and stays text: what a caller sends is never read as a template.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, StringConstraints, model_validator

from shieldmesh.errors import InternalError, InvalidArgumentError

from .entry import Part

MAX_VARIABLES: Final = 32
MAX_PROMPT: Final = 100_000
"""Code points that a template may make."""
_FILLER: Final = "1"
"""What a variable without a default is tried with when the profile is read: a text that is also a number."""

VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}\z")]

_SANDBOX: Final = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


class Variable(Part):
    """What a caller may put into a prompt."""

    description: str = ""
    """What it means, for those who call."""
    default: str | None = None
    """Its value when the caller gives none; None: the caller must give one."""
    choices: tuple[str, ...] = ()
    """The values that are allowed; none means any text."""
    max_characters: int = Field(default=200, ge=1, le=MAX_PROMPT)
    """Code points of a value."""

    @model_validator(mode="after")
    def _default_fits(self) -> "Variable":
        if self.default is not None and (problem := self.problem(self.default)):
            raise ValueError(f"the default does not fit: {problem}")
        return self

    @property
    def example(self) -> str:
        """A value that fits."""
        if self.default is not None:
            return self.default
        return self.choices[0] if self.choices else _FILLER

    def problem(self, value: str) -> str:
        """What is wrong with a value; "" when nothing is."""
        if self.choices and value not in self.choices:
            return f"expected one of {', '.join(self.choices)}"
        if len(value) > self.max_characters:
            return f"expected at most {self.max_characters} characters, got {len(value)}"
        return ""


class PromptTemplate(Part):
    """A prompt that is made for each turn of what its caller says."""

    template: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    """A Jinja2 template (https://jinja.palletsprojects.com/templates)."""
    variables: dict[VariableName, Variable] = Field(
        default_factory=dict[VariableName, Variable], max_length=MAX_VARIABLES
    )
    """All that it may use."""

    @model_validator(mode="after")
    def _works(self) -> "PromptTemplate":
        used = _variables_of(self.template)
        if unknown := sorted(used - self.variables.keys()):
            raise ValueError(f"the template uses {', '.join(unknown)}, which `variables` does not declare")
        if idle := sorted(self.variables.keys() - used):
            raise ValueError(f"the template does not use {', '.join(idle)}: leave the declaration out")
        try:
            self.render({name: variable.example for name, variable in self.variables.items()})
        except InternalError as error:
            raise ValueError(error.message) from None
        return self

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """The value of every variable: the caller's, or the default.

        Raises:
            InvalidArgumentError: one is missing, unknown, or not allowed; `field` names it.
        """
        if unknown := sorted(given.keys() - self.variables.keys()):
            expected = f"expected {', '.join(self.variables)}" if self.variables else "it has none"
            raise InvalidArgumentError(
                f"the profile's prompt has no variable of this name: {expected}", field=f"variables[{unknown[0]!r}]"
            )
        values: dict[str, str] = {}
        for name, variable in self.variables.items():
            value = given.get(name, variable.default)
            if value is None:
                raise InvalidArgumentError(
                    "the profile's prompt needs this variable: set it", field=f"variables[{name!r}]"
                )
            if problem := variable.problem(value):
                raise InvalidArgumentError(problem, field=f"variables[{name!r}]")
            values[name] = value
        return values

    def render(self, values: Mapping[str, str]) -> str:
        """The prompt that these values make.

        Raises:
            InternalError: the template fails with them, or makes too much.
        """
        prompt = ""
        try:
            for piece in self._compiled.generate(values):
                prompt += piece
                if len(prompt) > MAX_PROMPT:
                    raise InternalError(
                        f"the profile's prompt becomes longer than {MAX_PROMPT} characters", reason="PROMPT_FAILED"
                    )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            # What the error says can quote a value.
            raise InternalError(
                f"the profile's prompt cannot be made of these variables: {type(error).__name__}",
                reason="PROMPT_FAILED",
            ) from error
        return prompt

    @cached_property
    def _compiled(self) -> Template:
        return _SANDBOX.from_string(self.template)


def _variables_of(template: str) -> set[str]:
    """The variables that a template uses.

    Raises:
        ValueError: it is none, or reads others.
    """
    try:
        tree = _SANDBOX.parse(template)
        if any(True for _ in meta.find_referenced_templates(tree)):
            raise ValueError("a prompt stands on its own: include, import and extends lead nowhere here")
        _SANDBOX.from_string(template)  # what the parser lets pass, the compiler may not: an unknown filter
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} of the template: {error.message}") from None
    return set(meta.find_undeclared_variables(tree))
