"""Prompts with variables: what a profile may say, and what a caller may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shieldmesh.errors import InternalError, InvalidArgumentError
from shieldmesh.profile.template import MAX_PROMPT, PromptTemplate
from tests.shieldmesh.profile.writing import parse, problems

SUPPORT = """
model: a
prompt:
  template: |
    You help the customers of {{ company }}.
    {% if tone == "formal" %}
    Be formal.
    {% endif %}
  variables:
    company: {description: who they are customers of, max_characters: 20}
    tone: {choices: [formal, friendly], default: friendly}
"""


def template(text: str, **variables: object) -> PromptTemplate:
    return PromptTemplate.model_validate({"template": text, "variables": variables})


def support() -> PromptTemplate:
    prompt = parse(SUPPORT).prompt
    assert isinstance(prompt, PromptTemplate)
    return prompt


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"company": "Acme"}, "You help the customers of Acme.\n"),
        ({"company": "Acme", "tone": "formal"}, "You help the customers of Acme.\nBe formal.\n"),
    ],
)
def test_a_prompt_is_made_of_what_the_caller_says(given: dict[str, str], made: str) -> None:
    """Values take their places, and defaults those that nobody gave."""
    prompt = support()
    assert prompt.render(prompt.values(given)) == made


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({}, "variables['company']", "needs this variable"),
        ({"company": "x" * 21}, "variables['company']", "expected at most 20 characters, got 21"),
        ({"company": "x", "tone": "rude"}, "variables['tone']", "expected one of formal, friendly"),
        ({"company": "x", "mood": "good"}, "variables['mood']", "expected company, tone"),
    ],
)
def test_values_that_the_profile_does_not_allow(given: dict[str, str], field: str, message: str) -> None:
    """Each is refused with its name and what was expected."""
    with pytest.raises(InvalidArgumentError) as failure:
        support().values(given)
    assert failure.value.field == field
    assert message in failure.value.message


@given(st.text(max_size=60))
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    """Whatever a caller says stands in the prompt as it is."""
    prompt = template("<{{ name }}>", name={})
    assert prompt.render(prompt.values({"name": value})) == f"<{value}>"


@pytest.mark.parametrize(
    ("text", "variables", "problem"),
    [
        ("{{ a }}", "{}", "the template uses a, which `variables` does not declare"),
        ("x", "{a: {}}", "the template does not use a: leave the declaration out"),
        ("{{ a", "{a: {}}", "line 1 of the template: unexpected end of template"),
        ("{{ a | nonsense }}", "{a: {}}", "line 1 of the template: No filter named 'nonsense'."),
        ("{% include 'a' %}", "{}", "a prompt stands on its own: include, import and extends lead nowhere here"),
        ("{{ a.b }}", "{a: {}}", "the profile's prompt cannot be made of these variables: UndefinedError"),
        ("{{ a.__class__.__mro__ }}", "{a: {}}", "the profile's prompt cannot be made of these variables: Secur"),
        ("{{ a * 200000 }}", "{a: {}}", f"the profile's prompt becomes longer than {MAX_PROMPT} characters"),
        ("{{ a }}", "{a: {default: b, choices: [c]}}", "the default does not fit: expected one of c"),
        ("{{ A }}", "{A: {}}", "string should match pattern"),
    ],
)
def test_templates_that_cannot_work_are_told_when_the_profile_is_read(text: str, variables: str, problem: str) -> None:
    """Whoever writes the policy hears of it, with file and line, and no turn ever does."""
    content = f"model: a\nprompt:\n  template: {text!r}\n  variables: {variables}"
    told = problems(content)
    assert told[0].startswith("p.yaml:")
    assert problem in told[0]


def test_a_value_with_which_the_template_fails() -> None:
    """The turn fails, and the error does not say the value."""
    prompt = template("{{ 10 // (n | int) }}", n={})
    with pytest.raises(InternalError) as failure:
        prompt.render({"n": "zero"})
    assert failure.value.reason == "PROMPT_FAILED"
    assert "zero" not in str(failure.value)


def test_a_prompt_without_variables_is_a_text() -> None:
    """Braces in it mean nothing."""
    assert parse("model: a\nprompt: 'Say {{ hi }}.'").prompt == "Say {{ hi }}."
