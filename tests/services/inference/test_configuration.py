"""The models' configuration is read whole, or refused with the place of what is wrong."""

from pathlib import Path

import pytest

from services.inference.configuration import ConfigurationError, load
from services.inference.registry import open_models

ROOT = Path(__file__).parents[3]


def test_the_shipped_configuration_has_the_three_models() -> None:
    """`models.yaml` of the repository loads."""
    configuration = load(ROOT / "models.yaml")
    assert {model.name: model.backend for model in configuration.models} == {
        "smollm2": "llamacpp",
        "echo": "replay",
        "script": "replay",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:\n- name: a\n  backend: replay\n  options: {text: x, pace: -1}\n", ":4: models[0].options.pace: "),
        ("models:\n- name: a\n  backend: magic\n", ":2: models[0]: "),
        ("models:\n- {name: a, backend: llamacpp, gpu: 1}\n", ":2: models[0].gpu: "),
        ("models:\n- {name: a, backend: llamacpp}\n- {name: a, backend: llamacpp}\n", "2 models have the name a"),
        ("models: []\n", "at least one model is needed"),
        ("models: [\n", ":2: it is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_field(tmp_path: Path, text: str, expected: str) -> None:
    """Each mistake says where it is."""
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_configuration_is_one_sentence(tmp_path: Path) -> None:
    """The file that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(("content", "expected"), [(None, "there is no model file"), ("text", "cannot load")])
async def test_a_model_file_that_is_missing_or_broken_is_named(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    """Opening the models fails with the model, the file and the reason."""
    weights = tmp_path / "weights.gguf"
    if content is not None:
        weights.write_text(content)
    file = tmp_path / "models.yaml"
    file.write_text(f"models:\n- {{name: big, backend: llamacpp, options: {{path: {weights}}}}}\n")
    with pytest.raises(ConfigurationError, match=f"the model big .*{expected}.*weights.gguf"):
        async with open_models(load(file)):
            pytest.fail("it opened")
